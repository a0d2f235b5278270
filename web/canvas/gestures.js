/** What pointer and keys do on the canvas besides what React Flow does. */

import { useMemo } from "../vendor/flow.js";
import { withReroute } from "../graph/adding.js";
import { move, nodeOf, portOf } from "../graph/document.js";
import { GRID } from "../graph/geometry.js";
import { follow } from "./pointer.js";
import { dragSize } from "./resizing.js";
import { dragWire } from "./wiring.js";

/** @import {App, Tab} from "../state/app.js" */
/** @import {Ground} from "./wiring.js" */

const LONG_MS = 500; // a press of a finger that opens the menu
const ARROWS = /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [-GRID, 0], ArrowRight: [GRID, 0], ArrowUp: [0, -GRID], ArrowDown: [0, GRID] });
const FIELDS = "input, textarea, select, [contenteditable]";

/**
 * Listeners for the element around the canvas.
 * @param {App} app
 * @param {Tab} tab
 * @param {() => Ground} ground
 */
export function useGestures(app, tab, ground) {
  return useMemo(() => ({
    onPointerDownCapture: (/** @type {any} */ { nativeEvent }) => press(app, tab, ground, nativeEvent),
    onDoubleClick: (/** @type {MouseEvent} */ event) => doubleClick(app, tab, event),
    onContextMenu(/** @type {MouseEvent & {target: HTMLElement}} */ event) {
      if (event.target.closest(FIELDS)) return;
      event.preventDefault();
      openMenu(app, tab, event.target, event.clientX, event.clientY);
    },
    onKeyDownCapture: (/** @type {KeyboardEvent} */ event) => key(app, tab, event),
  }), [app, ground, tab]);
}

/** @param {App} app @param {Tab} tab @param {() => Ground} ground @param {PointerEvent} event */
function press(app, tab, ground, event) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.button !== 0 || !event.isPrimary) return;
  const port = /** @type {HTMLElement | null} */ (target.closest(".port"));
  const handle = /** @type {HTMLElement | null} */ (target.closest(".resize-handle"));
  if (port || handle) {
    event.preventDefault(); // else the press also moves the node, or marks text
    event.stopPropagation();
    if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
    if (target.hasPointerCapture(event.pointerId)) target.releasePointerCapture(event.pointerId);
    if (port) dragWire(app, tab, ground(), event, port);
    else if (handle) dragSize(tab, event, handle);
  } else if (event.pointerType === "touch" && !target.closest(FIELDS)) {
    const timer = window.setTimeout(() => openMenu(app, tab, target, event.clientX, event.clientY), LONG_MS);
    const stop = () => clearTimeout(timer);
    follow(event, { start: 8, onMove: stop, onEnd: stop });
  }
}

/** @param {App} app @param {Tab} tab @param {MouseEvent} event */
function doubleClick(app, tab, event) {
  const target = /** @type {HTMLElement} */ (event.target);
  const wire = wireOf(target);
  const at = tab.view.toFlow(event.clientX, event.clientY);
  if (wire) tab.editor.edit("Add a reroute", (doc) => withReroute(doc, nodeOf(wire), portOf(wire), at)[0]);
  else if (target.matches(".react-flow__pane")) app.show({ kind: "palette", at: { x: event.clientX, y: event.clientY }, from: null, to: null });
}

/**
 * Opens the menu of what is at a place; a node that is not selected is selected by it.
 * @param {App} app
 * @param {Tab} tab
 * @param {Element} element
 * @param {number} x
 * @param {number} y
 */
function openMenu(app, tab, element, x, y) {
  const wire = wireOf(element);
  const id = /** @type {HTMLElement | null} */ (element.closest(".react-flow__node"))?.dataset.id;
  const { doc, store } = tab.editor;
  const kind = wire ? "wire" : !id ? "pane" : id in doc.nodes ? "node" : doc.ui?.notes?.[id] ? "note" : "group";
  const what = wire ?? id;
  if (what && !store.getState().selection.has(what)) tab.editor.select([what]);
  app.show({ kind: "menu", at: { x, y }, target: { kind, id: what ?? "" } });
}

/** @param {Element} element */
function wireOf(element) {
  return /** @type {HTMLElement | null} */ (element.closest(".react-flow__edge"))?.dataset.id;
}

/** @param {App} app @param {Tab} tab @param {KeyboardEvent} event */
function key(app, tab, event) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.closest(`${FIELDS}, .nokey`)) return;
  const step = ARROWS[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  nudge(app, tab, step, event.shiftKey ? 5 : 1);
  event.preventDefault();
  event.stopPropagation();
}

/** @param {App} app @param {Tab} tab @param {[number, number]} step @param {number} times */
function nudge(app, { editor }, [dx, dy], times) {
  const { doc, selection } = editor.store.getState();
  const { positions = {}, notes = {}, groups = [] } = doc.ui ?? {};
  const places = [
    ...editor.chosen.map((id) => /** @type {const} */ ([id, positions[id] ?? [0, 0]])),
    ...Object.entries(notes).map(([id, note]) => /** @type {const} */ ([id, note.position ?? [0, 0]])),
    ...groups.map(({ id, bounding: [x, y] }) => /** @type {const} */ ([id, [x, y]])),
  ].filter(([id]) => selection.has(id));
  if (!places.length) return;
  const moved = new Map(places.map(([id, [x, y]]) => /** @type {const} */ ([id, /** @type {[number, number]} */ ([x + dx * times, y + dy * times])])));
  editor.edit("Move", (now) => move(now, moved), "nudge");
  app.announce(`Moved ${dx ? (dx > 0 ? "right" : "left") : dy > 0 ? "down" : "up"}.`);
}
