/** The open workflows. */

import { html, useEffect, useRef, useState, useStoreWithEqualityFn } from "../vendor/flow.js";
import { Icon } from "../icons.js";
import { hasChanges } from "../state/draft.js";
import { closeTab, moveTab, newTab, renameTab } from "../state/tabs.js";
import { useApp, useAppState } from "../state/use.js";

/** @import {TabState} from "../state/app.js" */

const DRAGGED_TAB = "application/x-nodegraph-tab";

/** A tab for each open document, and one more. */
export function Tabs() {
  const app = useApp();
  const { tabs, active } = useAppState(({ tabs, active }) => ({ tabs, active }));
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    const show = () => list.current?.querySelector(".tab.is-front")?.scrollIntoView({ block: "nearest", inline: "nearest" });
    const seen = new ResizeObserver(show); // also when what is beside it takes its room
    if (list.current) seen.observe(list.current);
    show();
    return () => seen.disconnect();
  }, [active, tabs]);
  const onWheel = (/** @type {WheelEvent} */ event) => list.current?.scrollBy({ left: event.deltaY + event.deltaX });
  return html`<div class="tab-bar">
    <nav ref=${list} class="tabs" aria-label="Open workflows" onWheel=${onWheel}>
      ${tabs.map((state, place) => html`<${TabItem} key=${state.id} state=${state} place=${place} isFront=${state.id === active} />`)}
    </nav>
    <button class="button is-quiet is-icon" aria-label="new tab" title="New tab (Alt T)" onClick=${() => newTab(app)}><${Icon} name="plus" /></button>
  </div>`;
}

/** @param {{state: TabState, place: number, isFront: boolean}} props */
function TabItem({ state, place, isFront }) {
  const app = useApp();
  const { id, name, workflow } = state;
  const store = app.tabs.get(id)?.editor.store;
  const [isNaming, setIsNaming] = useState(false);
  const [isOver, setIsOver] = useState(false);
  if (!store) return null;
  const onDrop = (/** @type {DragEvent} */ event) => {
    setIsOver(false);
    const dragged = event.dataTransfer?.getData(DRAGGED_TAB);
    if (!dragged) return;
    event.preventDefault();
    moveTab(app, dragged, place);
  };
  const onDragOver = (/** @type {DragEvent} */ event) => {
    if (!event.dataTransfer?.types.includes(DRAGGED_TAB)) return;
    event.preventDefault();
    setIsOver(true);
  };
  const onContextMenu = (/** @type {MouseEvent} */ event) => {
    event.preventDefault();
    const at = /** @type {HTMLElement} */ (event.currentTarget);
    void import("./documentMenus.js").then(({ tabMenu }) => tabMenu(app, state, at, () => setIsNaming(true)));
  };
  return html`<div class=${`tab ${isFront ? "is-front" : ""} ${isOver ? "is-over" : ""}`} title=${workflow ?? name} draggable=${!isNaming}
    onDragStart=${(/** @type {DragEvent} */ event) => event.dataTransfer?.setData(DRAGGED_TAB, id)}
    onDragOver=${onDragOver} onDragLeave=${() => setIsOver(false)} onDrop=${onDrop} onContextMenu=${onContextMenu}
    onAuxClick=${(/** @type {MouseEvent} */ event) => event.button === 1 && closeTab(app, id)}>
    ${isNaming ? html`<${NameField} id=${id} name=${name} onDone=${() => setIsNaming(false)} />`
    : html`<${TabButton} state=${state} place=${place} isFront=${isFront} store=${store} onName=${() => setIsNaming(true)} />`}
    <button class="tab-close" tabIndex=${isFront ? 0 : -1} aria-label=${`close ${name}`} onClick=${() => closeTab(app, id)}><${Icon} name="close" /></button>
  </div>`;
}

/** @param {{state: TabState, place: number, isFront: boolean, store: any, onName: () => void}} props */
function TabButton({ state, place, isFront, store, onName }) {
  const app = useApp();
  const isChanged = useStoreWithEqualityFn(store, (/** @type {any} */ { doc }) => hasChanges(state, doc));
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "F2") onName();
    else if (event.key === "Delete") closeTab(app, state.id);
    else if (step && event.ctrlKey) moveTab(app, state.id, place + step);
    else if (step) focusBeside(event, step);
    else return;
    event.preventDefault();
  };
  return html`<button class="tab-name" aria-current=${isFront ? "page" : undefined} tabIndex=${isFront ? 0 : -1}
    onClick=${() => app.store.setState({ active: state.id })} onDoubleClick=${onName} onKeyDown=${onKeyDown}>
    <span>${state.name}</span>${isChanged && html`<span class="tab-dot" /><span class="visually-hidden">, not saved</span>`}</button>`;
}

/** @param {{id: string, name: string, onDone: () => void}} props */
function NameField({ id, name, onDone }) {
  const app = useApp();
  const finish = (/** @type {string} */ wanted) => {
    onDone();
    void renameTab(app, id, wanted);
  };
  const onKeyDown = (/** @type {any} */ event) => {
    if (event.key === "Enter") finish(event.target.value);
    if (event.key === "Escape") onDone();
  };
  return html`<input class="tab-field" aria-label="name of the tab" autoFocus defaultValue=${name} maxLength=${100} onKeyDown=${onKeyDown}
    onFocus=${(/** @type {any} */ event) => event.target.select()} onBlur=${(/** @type {any} */ event) => finish(event.target.value)} />`;
}

/** @param {KeyboardEvent} event @param {number} step */
function focusBeside(event, step) {
  const names = [.../** @type {HTMLElement} */ (event.currentTarget).closest(".tabs")?.querySelectorAll(".tab-name") ?? []];
  const place = names.indexOf(/** @type {Element} */ (event.currentTarget)) + step;
  /** @type {HTMLElement | undefined} */ (names[(place + names.length) % names.length])?.focus();
}
