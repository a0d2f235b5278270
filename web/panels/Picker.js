/** A field with a list under it: type to search, arrows to move, Enter to choose. */

import { flushSync, html, memo, useCallback, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "../vendor/flow.js";
import { typeClass } from "../canvas/types.js";
import { count } from "../words.js";
import { Dialog } from "./Dialog.js";

/**
 * @typedef {object} Choice
 * @property {string} id
 * @property {string} label
 * @property {string} [hint] beside it
 * @property {string} [group] heading above it
 * @property {string} [type] of a port, for its dot
 * @property {string[]} [keys]
 * @property {() => void} pick
 * @property {any} [about] for the pane beside the list
 */

/**
 * A dialog to choose something.
 * @param {object} props
 * @param {string} props.label
 * @param {string} props.placeholder
 * @param {string} props.nothing said when nothing fits
 * @param {(query: string) => Choice[]} props.choices
 * @param {{x: number, y: number} | null} [props.at]
 * @param {string} [props.className]
 * @param {(choice: Choice) => void} [props.onMove] told of the choice that is marked
 * @param {(props: {about: any}) => any} [props.About] pane beside the list
 * @param {() => void} props.onClose
 */
export function Picker({ label, placeholder, nothing, choices, at, className = "", onMove, About, onClose }) {
  const [query, setQuery] = useState("");
  const [active, setActive] = useState(0);
  const found = useMemo(() => choices(query), [choices, query]);
  const listId = useId();
  const marked = found[Math.min(active, found.length - 1)];
  const latest = useRef({ found, onClose });
  latest.current = { found, onClose };
  const pick = useCallback((/** @type {number} */ place) => {
    const choice = latest.current.found[place];
    if (!choice) return;
    flushSync(latest.current.onClose); // the focus is back before what was chosen moves it
    choice.pick();
  }, []);
  useEffect(() => {
    if (marked) onMove?.(marked);
  }, [marked, onMove]);
  const onKey = (/** @type {KeyboardEvent} */ event) => {
    const last = found.length - 1;
    const next = { ArrowDown: active >= last ? 0 : active + 1, ArrowUp: active <= 0 ? last : active - 1, PageDown: Math.min(last, active + 10), PageUp: Math.max(0, active - 10) }[event.key];
    if (next !== undefined) setActive(next);
    else if (event.key === "Enter" && !event.isComposing) pick(Math.min(active, last));
    else if (event.key !== "Tab") return;
    event.preventDefault();
  };
  return html`<${Dialog} label=${label} at=${at} onClose=${onClose} className=${`picker ${About ? "has-about" : ""} ${className}`}>
    <div class="picker-main">
      <input class="picker-field" type="text" role="combobox" aria-expanded="true" aria-autocomplete="list" aria-controls=${listId} aria-label=${label} placeholder=${placeholder}
        aria-activedescendant=${marked ? `${listId}-${Math.min(active, found.length - 1)}` : undefined} value=${query} spellcheck="false" autocomplete="off"
        onChange=${(/** @type {any} */ event) => {
          setQuery(event.target.value);
          setActive(0);
        }} onKeyDown=${onKey} />
      <${List} id=${listId} label=${label} found=${found} active=${Math.min(active, found.length - 1)} pick=${pick} point=${setActive} />
      <p class=${found.length ? "visually-hidden" : "empty"} role="status">${found.length ? `${count(found.length, "choice")}.` : nothing}</p>
    </div>
    ${About && html`<div class="picker-about" aria-live="off">${marked?.about && html`<${About} about=${marked.about} />`}</div>`}
  <//>`;
}

/**
 * The list, under headings.
 * @param {{id: string, label: string, found: Choice[], active: number, pick: (place: number) => void, point: (place: number) => void}} props
 */
function List({ id, label, found, active, pick, point }) {
  const ref = useRef(/** @type {HTMLElement | null} */ (null));
  useLayoutEffect(() => {
    ref.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }, [active, found]);
  /** @type {{group: string, places: number[]}[]} */
  const groups = [];
  found.forEach(({ group = "" }, place) => {
    if (groups.at(-1)?.group === group) groups.at(-1)?.places.push(place);
    else groups.push({ group, places: [place] });
  });
  return html`<div class="picker-list" role="listbox" id=${id} aria-label=${label} ref=${ref} hidden=${!found.length}>${groups.map(({ group, places }) => {
    const options = places.map((place) => html`<${Option} key=${found[place].id} id=${`${id}-${place}`} choice=${found[place]} place=${place} isActive=${place === active} pick=${pick} point=${point} />`);
    return group ? html`<div role="group" aria-label=${group} key=${group}><div class="picker-heading" role="presentation" aria-hidden="true">${group}</div>${options}</div>` : options;
  })}</div>`;
}

const Option = memo(function Option(/** @type {{id: string, choice: Choice, place: number, isActive: boolean, pick: (place: number) => void, point: (place: number) => void}} */ { id, choice, place, isActive, pick, point }) {
  return html`<div role="option" id=${id} aria-selected=${isActive} class="picker-option" onClick=${() => pick(place)} onMouseMove=${() => isActive || point(place)}>
    ${choice.type !== undefined && html`<span class=${`node-chip ${typeClass(choice.type)}`} aria-hidden="true"></span>`}
    <span class="picker-label">${choice.label}</span>
    ${choice.hint && html`<span class="picker-hint">${choice.hint}</span>`}
    ${choice.keys?.length ? html`<kbd>${choice.keys[0]}</kbd>` : null}
  </div>`;
});
