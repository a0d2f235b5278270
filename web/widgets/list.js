/** Lists that open at a field: one is chosen by pointer or keys, out of thousands. */

import { createPortal, html, useEffect, useId, useLayoutEffect, useRef, useState } from "../vendor/flow.js";
import { fuzzysort } from "../vendor/search.js";
import { parted } from "./names.js";

const FOUND = 500; // names in a list
const HEIGHT = 320;
const LEAST_WIDTH = 280;
const MARGIN = 8;
const AHEAD = 4; // rows drawn out of sight

/**
 * @typedef {object} OptionsProps
 * @property {string} id
 * @property {string} label
 * @property {readonly string[]} names
 * @property {number} at place of the one that Enter takes
 * @property {string} [picked]
 * @property {(name: string) => string} [pictureOf] address of a small picture
 * @property {(name: string) => void} onPick
 */

/**
 * Names under one another, of which only those in view are in the page.
 * @param {OptionsProps} props
 */
export function Options({ id, label, names, at, picked, pictureOf, onPick }) {
  const [top, setTop] = useState(0);
  const list = useRef(/** @type {HTMLDivElement | null} */ (null));
  const row = pictureOf ? 52 : 28;
  useLayoutEffect(() => {
    const box = list.current;
    if (!box) return;
    if (at * row < box.scrollTop) box.scrollTop = at * row;
    if ((at + 1) * row > box.scrollTop + box.clientHeight) box.scrollTop = (at + 1) * row - box.clientHeight;
  }, [at, row]);
  const first = Math.max(0, Math.floor(top / row) - AHEAD);
  const shown = names.slice(first, first + Math.ceil(HEIGHT / row) + 2 * AHEAD);
  return html`<div class="list-scroll" ref=${list} style=${{ maxHeight: `${HEIGHT}px` }} onScroll=${(/** @type {any} */ event) => setTop(event.target.scrollTop)}>
    <div class="list-options" role="listbox" id=${id} aria-label=${label} style=${{ height: `${names.length * row}px` }}>
      ${shown.map((name, place) => html`<div key=${name} id=${`${id}-${first + place}`} role="option" aria-selected=${name === picked} aria-setsize=${names.length} aria-posinset=${first + place + 1}
        class=${`list-option ${first + place === at ? "is-at" : ""}`} title=${name} style=${{ top: `${(first + place) * row}px`, height: `${row}px` }}
        onPointerDown=${(/** @type {Event} */ event) => event.preventDefault()} onClick=${() => onPick(name)}>
        ${pictureOf && html`<img class="list-picture" src=${pictureOf(name)} alt="" loading="lazy" />`}
        <span class="list-name"><span class="list-folder">${parted(name)[0]}</span>${parted(name)[1]}</span>
      </div>`)}
    </div>
  </div>`;
}

/**
 * A list to search in, over the page at a field.
 * @param {{anchor: HTMLElement, label: string, names: readonly string[], picked?: string, pictureOf?: (name: string) => string, children?: any,
 *   onPick: (name: string) => void, onClose: () => void}} props
 */
export function SearchList({ anchor, label, names, picked, pictureOf, children, onPick, onClose }) {
  const id = useId();
  const [text, setText] = useState("");
  const shown = found(names, text);
  const [at, setAt] = useState(Math.max(0, names.indexOf(picked ?? "")));
  const last = shown.length - 1;
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    const moves = moveOf(event.key);
    if (moves) setAt((old) => Math.min(last, Math.max(0, old + moves)));
    else if (event.key === "Enter") shown[at] !== undefined && onPick(shown[at]);
    else if (event.key === "Escape" || event.key === "Tab") onClose();
    else return;
    event.preventDefault();
  };
  const search = (/** @type {any} */ event) => {
    setText(event.target.value);
    setAt(0);
  };
  return html`<${Floating} anchor=${anchor} onClose=${onClose} onKeyDown=${onKeyDown}>
    <input class="field list-search" role="combobox" aria-expanded="true" aria-controls=${id} aria-autocomplete="list" aria-activedescendant=${shown.length ? `${id}-${at}` : undefined}
      aria-label=${`search ${label}`} placeholder=${`Search ${names.length}`} value=${text} onChange=${search} autoFocus spellCheck=${false} autoComplete="off" />
    <${Options} id=${id} label=${label} names=${shown} at=${at} picked=${picked} pictureOf=${pictureOf} onPick=${onPick} />
    ${!shown.length && html`<p class="empty">${names.length ? "Nothing of that name." : "There are none yet."}</p>`}
    ${children}
  <//>`;
}

/**
 * A box over the page, at an element: below it, or above where there is more room. A press beside it closes it.
 * @param {{anchor: HTMLElement, onClose?: () => void, onKeyDown?: (event: any) => void, children?: any}} props
 */
export function Floating({ anchor, onClose, onKeyDown, children }) {
  const place = usePlace(anchor);
  const stop = (/** @type {Event} */ event) => event.stopPropagation();
  const keys = (/** @type {KeyboardEvent} */ event) => {
    onKeyDown?.(event);
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
  };
  return createPortal(html`<div class="list-layer" onClick=${stop} onDoubleClick=${stop} onPointerDown=${stop} onContextMenu=${stop} onKeyDown=${keys}>
    ${onClose && html`<div class="list-ground" onPointerDown=${onClose} onWheel=${onClose}></div>`}
    <div class="list" style=${place}>${children}</div>
  </div>`, document.body);
}

/** @param {HTMLElement} anchor */
function usePlace(anchor) {
  const [, redraw] = useState(0);
  useEffect(() => {
    const onResize = () => redraw((old) => old + 1);
    window.addEventListener("resize", onResize);
    return () => window.removeEventListener("resize", onResize);
  }, []);
  const box = anchor.getBoundingClientRect();
  const width = Math.min(Math.max(box.width, LEAST_WIDTH), window.innerWidth - 2 * MARGIN);
  const left = Math.max(MARGIN, Math.min(box.left, window.innerWidth - width - MARGIN));
  const below = window.innerHeight - box.bottom;
  const isBelow = below > HEIGHT + 90 || below > box.top;
  const side = isBelow ? { top: `${box.bottom + 4}px` } : { bottom: `${window.innerHeight - box.top + 4}px` };
  return { left: `${left}px`, width: `${width}px`, maxHeight: `${(isBelow ? below : box.top) - MARGIN - 4}px`, ...side };
}

/** @param {string} key */
function moveOf(key) {
  return { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[key] ?? 0;
}

/**
 * The names that fit what is typed, best first; all in their order when nothing is.
 * @param {readonly string[]} names
 * @param {string} text
 * @returns {readonly string[]}
 */
export function found(names, text) {
  return text.trim() === "" ? names : fuzzysort.go(text.trim(), names, { limit: FOUND }).map(({ target }) => target);
}
