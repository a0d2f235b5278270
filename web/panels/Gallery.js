/** The gallery: the newest pictures of all runs. */

import { html, memo, useCallback, useEffect, useMemo, useRef, useState } from "../vendor/flow.js";
import { Icon } from "../icons.js";
import { DRAGGED_OPENING } from "../state/opening.js";
import { deleteRun, isPicture, mayDelete, thumbnail } from "../state/pictures.js";
import { useApp } from "../state/use.js";
import { ago, count } from "../words.js";
import { Twice } from "./PictureActions.js";
import { useOutputs } from "./outputs.js";

/** @import {Picture} from "../state/pictures.js" */

const CHUNK = 120; // fills whole rows of up to 6, 8, 10 or 12
/** @type {Picture[]} */
const NONE = [];

/** The panel. */
export function Gallery() {
  const app = useApp();
  const [chosen, setChosen] = useState(/** @type {Picture[]} */ ([]));
  const view = useGallery();
  const { files, drop } = view.outputs;
  const latest = useRef(files);
  latest.current = files;
  const gone = useCallback((/** @type {string} */ run) => {
    drop(run);
    setChosen((old) => old.filter((file) => file.run !== run));
  }, [drop]);
  const anchor = useRef("");
  const press = useCallback((/** @type {Picture} */ file, /** @type {{toggles: boolean, extends: boolean}} */ how) => {
    const from = latest.current.findIndex(({ url }) => url === anchor.current);
    const to = latest.current.indexOf(file);
    anchor.current = how.extends ? anchor.current || file.url : file.url;
    if (how.extends && from >= 0) setChosen(latest.current.slice(Math.min(from, to), Math.max(from, to) + 1));
    else if (how.toggles || how.extends) setChosen((old) => (old.includes(file) ? old.filter((one) => one !== file) : [...old, file]));
    else app.show({ kind: "viewer", files: latest.current, file, onGone: gone });
  }, [app, gone]);
  const menu = useCallback((/** @type {Picture} */ file, /** @type {{x: number, y: number}} */ at) => {
    app.show({ kind: "picture-menu", file, at, onGone: gone });
  }, [app, gone]);
  return html`<div class="gallery">
    ${view.field}
    ${chosen.length > 0 && html`<${ChosenBar} chosen=${chosen} clear=${() => setChosen([])} gone=${gone} />`}
    <${Grid} outputs=${view.outputs} chosen=${chosen} press=${press} menu=${menu} nothing=${view.nothing} />
  </div>`;
}

/** A gallery in which a press picks a picture. @param {{onPick: (file: Picture) => void}} props */
export function PickGallery({ onPick }) {
  const view = useGallery();
  return html`<div class="gallery">${view.field}<${Grid} outputs=${view.outputs} chosen=${[]} press=${onPick} nothing=${view.nothing} /></div>`;
}

/** What is searched, and what was found. */
function useGallery() {
  const [search, setSearch] = useState("");
  const [isAll, setAll] = useState(false);
  const outputs = useOutputs(search.trim(), isAll);
  return {
    outputs,
    nothing: search.trim() ? "No picture fits these words." : "No pictures yet. Press Run, and they appear here.",
    field: html`<div class="gallery-search" role="search">
      <input class="field" type="search" aria-label="search pictures" placeholder="Prompt or workflow" value=${search} maxLength=${200} onInput=${(/** @type {any} */ event) => setSearch(event.target.value)} />
      <label class="gallery-all"><input type="checkbox" checked=${isAll} onChange=${() => setAll(!isAll)} />Previews too</label>
    </div>`,
  };
}

/** What can be done with those that are chosen. @param {{chosen: Picture[], clear: () => void, gone: (run: string) => void}} props */
function ChosenBar({ chosen, clear, gone }) {
  const app = useApp();
  const runs = [...new Map(chosen.map((file) => [file.run, file])).values()];
  const compare = () => {
    const [one, other] = chosen.toSorted((left, right) => Date.parse(left.created ?? "") - Date.parse(right.created ?? "")); // the older one at the left
    app.show({ kind: "compare", one, other });
  };
  const remove = async () => {
    for (const file of runs) await deleteRun(app, file).then((run) => run && gone(run));
  };
  return html`<div class="gallery-chosen">
    <span role="status">${chosen.length} chosen</span>
    <button class="button" disabled=${chosen.length !== 2 || !chosen.every(isPicture)} onClick=${compare}>Compare</button>
    ${mayDelete(app) && html`<${Twice} label="Delete" asks=${`Delete ${count(runs.length, "run")}?`} onYes=${remove} />`}
    <button class="button is-icon is-quiet" aria-label="choose none" onClick=${clear}><${Icon} name="close" /></button>
  </div>`;
}

/**
 * The pictures; arrows move between them.
 * @param {object} props
 * @param {import("./outputs.js").Outputs} props.outputs
 * @param {Picture[]} props.chosen
 * @param {(file: Picture, how: {toggles: boolean, extends: boolean}) => void} props.press
 * @param {(file: Picture, at: {x: number, y: number}) => void} [props.menu]
 * @param {string} props.nothing
 */
function Grid({ outputs: { files, isOver, isRead, more }, chosen, press, menu, nothing }) {
  const [current, setCurrent] = useState("");
  const end = useRef(/** @type {HTMLDivElement | null} */ (null));
  useEffect(() => {
    const root = end.current?.closest(".dock-body, .compare-pick"); // what scrolls: only its own margin counts
    const observer = new IntersectionObserver(([{ isIntersecting }]) => isIntersecting && more(), { root, rootMargin: "800px" });
    if (end.current) observer.observe(end.current);
    return () => observer.disconnect();
  }, [more, files, isOver]);
  const chunks = useMemo(() => Array.from({ length: Math.ceil(files.length / CHUNK) }, (_, place) => files.slice(place * CHUNK, (place + 1) * CHUNK)), [files]);
  if (isRead && !files.length) return html`<p class="empty" role="status">${nothing}</p>`;
  const at = files.some(({ url }) => url === current) ? current : files[0]?.url;
  const onKeyDown = (/** @type {any} */ event) => {
    const items = /** @type {HTMLElement[]} */ ([...event.currentTarget.querySelectorAll("[role=option]")]);
    const next = items[nextPlace(items, event)];
    if (!next) return;
    event.preventDefault();
    next.focus();
  };
  return html`<div class="gallery-list" role="listbox" aria-label="pictures" aria-multiselectable=${Boolean(menu)} onKeyDown=${onKeyDown}>
    ${chunks.map((chunk, place) => html`<${Chunk} key=${place} files=${chunk} chosen=${within(chunk, chosen)} current=${chunk.some(({ url }) => url === at) ? at : ""} press=${press} menu=${menu} focus=${setCurrent} />`)}
    ${!isOver && html`<div class="gallery-end" ref=${end} role="presentation"></div>`}
  </div>`;
}

/** A part of the list, which costs nothing while it is out of sight. */
const Chunk = memo(function Chunk(/** @type {any} */ { files, chosen, current, press, menu, focus }) {
  return html`<div class="gallery-grid" role="presentation">${files.map((/** @type {Picture} */ file) => (
    html`<${Item} key=${file.url} file=${file} isChosen=${chosen.includes(file)} isCurrent=${file.url === current} press=${press} menu=${menu} focus=${focus} />`))}
  </div>`;
});

/** Those of the chosen that are in a part; always the same when there are none. @param {Picture[]} chunk @param {Picture[]} chosen */
function within(chunk, chosen) {
  const found = chosen.filter((file) => chunk.includes(file));
  return found.length ? found : NONE;
}

const Item = memo(function Item(/** @type {any} */ { file, isChosen, isCurrent, press, menu, focus }) {
  const name = `${file.filename}, ${ago(file.created)}`;
  const open = (/** @type {any} */ event) => {
    event.preventDefault();
    press(file, { toggles: event.ctrlKey || event.metaKey, extends: event.shiftKey });
  };
  const ask = (/** @type {any} */ event) => {
    if (!menu) return;
    event.preventDefault();
    const { right, bottom } = event.currentTarget.getBoundingClientRect();
    menu(file, event.clientX ? { x: event.clientX, y: event.clientY } : { x: right - 24, y: bottom - 24 });
  };
  const onKeyDown = (/** @type {any} */ event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    press(file, { toggles: true, extends: event.shiftKey });
  };
  const drag = (/** @type {any} */ event) => {
    const { run, type, subfolder, filename } = file;
    event.dataTransfer.setData(DRAGGED_OPENING, JSON.stringify(run ? { run } : { file: { type, subfolder, filename } }));
    event.dataTransfer.setData("text/uri-list", new URL(file.url, location.href).href);
    event.dataTransfer.effectAllowed = "copy";
  };
  return html`<div class="gallery-item" role="presentation">
    <a class="gallery-picture" role="option" aria-selected=${isChosen} aria-label=${name} title=${name} href=${file.url} tabIndex=${isCurrent ? 0 : -1} draggable=${true}
      onClick=${open} onContextMenu=${ask} onKeyDown=${onKeyDown} onFocus=${() => focus(file.url)} onDragStart=${drag}>
      ${isPicture(file) ? html`<img src=${thumbnail(file, 256)} alt="" loading="lazy" decoding="async" draggable=${false} />` : html`<span class="gallery-format">${file.format}</span>`}
    </a>
    ${menu && html`<button class="gallery-more" tabIndex=${-1} aria-hidden="true" title=${`actions of ${file.filename}`} onClick=${ask}><${Icon} name="more" /></button>`}
  </div>`;
});

/** Where a key goes in a grid; -1 where it is not for it. @param {HTMLElement[]} items @param {KeyboardEvent} event */
function nextPlace(items, { key, ctrlKey, metaKey }) {
  const place = items.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  if (place < 0 || ctrlKey || metaKey) return -1;
  const top = items[0].getBoundingClientRect().top;
  const below = items.findIndex((item) => item.getBoundingClientRect().top !== top);
  const columns = below < 0 ? items.length : below;
  const moves = /** @type {Record<string, number>} */ ({ ArrowLeft: place - 1, ArrowRight: place + 1, ArrowUp: place - columns, ArrowDown: place + columns, Home: 0, End: items.length - 1 });
  return moves[key] ?? -1;
}
