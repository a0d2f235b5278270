/** Keys, clipboard and pointer on the canvas: what is not a command of the table. */

import { useEffect } from "../vendor/flow.js";
import { setInput } from "../graph/document.js";
import { isLink } from "../graph/ports.js";
import { pictureIn } from "../net/uploads.js";
import { copied, cutChosen, pastePicture, pasteText } from "../state/clipboard.js";
import { useApp } from "../state/use.js";
import { focusCanvas, focusNode, stopsIn } from "./focus.js";

/** @import {App} from "../state/app.js" */

const COLUMN = 200; // pixels within which nodes are of one column, in the order of Tab
const OWN_ESCAPE = "input, textarea, select, [aria-haspopup], [role=combobox], [role=spinbutton], [role=slider]";
const REGIONS = ".top-bar, .dock-left, .react-flow, .dock-right";

/** Listens to the page while the canvas is there; draws nothing. */
export function GraphKeys() {
  const app = useApp();
  useEffect(() => {
    const ends = new AbortController();
    const { signal } = ends;
    /** Whether Shift is held with Ctrl and V: an event of pasting does not say. */
    let isShift = false;
    document.addEventListener("keydown", (event) => {
      isShift = event.shiftKey;
      if (!event.isComposing && !app.store.getState().overlay) onKey(app, event);
    }, { signal, capture: true });
    document.addEventListener("keydown", (event) => {
      const at = /** @type {HTMLElement} */ (event.target);
      const node = /** @type {HTMLElement | null} */ (at.closest(".react-flow__node"));
      if (event.key === "Escape" && node && at !== node && !event.defaultPrevented && !app.store.getState().overlay) requestAnimationFrame(() => leave(app, node, at));
    }, { signal });
    document.addEventListener("pointermove", (event) => {
      app.pointer = event.pointerType === "touch" ? null : { x: event.clientX, y: event.clientY };
    }, { signal, passive: true });
    document.addEventListener("copy", (event) => onCopy(app, event, false), { signal });
    document.addEventListener("cut", (event) => onCopy(app, event, true), { signal });
    document.addEventListener("paste", (event) => onPaste(app, event, isShift), { signal });
    return () => ends.abort();
  }, [app]);
  return null;
}

/** @param {App} app @param {KeyboardEvent} event */
function onKey(app, event) {
  const at = /** @type {HTMLElement} */ (event.target);
  if (event.key === "F6") return taken(event, () => nextRegion(at, event.shiftKey));
  if (event.ctrlKey || event.metaKey || event.altKey || !at.closest(".react-flow, body")) return undefined;
  const node = /** @type {HTMLElement | null} */ (at.closest(".react-flow__node"));
  if (!node) return isCanvas(at) && event.key.startsWith("Arrow") ? onCanvasArrow(app, event, at) : undefined;
  if (event.key === "Tab") return onTab(app, event, node, at);
  if (at === node && event.key === "Enter") return taken(event, () => enterNode(app, node));
  if (event.key === "Escape" && !at.matches(OWN_ESCAPE)) return taken(event, () => leave(app, node, at));
  if (at.matches(".port")) return onPortKey(app, event, node, at);
  return undefined;
}

/** Enter on a port looks for the other end of a wire, Delete cuts the wire. @param {App} app @param {KeyboardEvent} event @param {HTMLElement} node @param {HTMLElement} port */
function onPortKey(app, event, node, port) {
  const id = node.dataset.id ?? "";
  const handle = port.dataset.handleid ?? "";
  const input = handle.startsWith("in:") ? handle.slice(3) : null;
  if (event.key === "Enter" || event.key === " ") {
    return taken(event, () => {
      const box = port.getBoundingClientRect();
      app.show({ kind: "palette", isKeyboard: true, anchor: { x: box.right + 8, y: box.top }, ...(input === null ? { from: { node: id, place: Number(handle.slice(4)) } } : { to: { node: id, input } }) });
    });
  }
  if (event.key !== "Delete" && event.key !== "Backspace") return undefined;
  return taken(event, () => {
    const { editor } = app.tab;
    if (input === null || !isLink(editor.doc.nodes[id]?.inputs[input])) return app.announce("There is no wire to cut here.");
    editor.edit("Cut a wire", (doc) => setInput(doc, id, input, undefined));
    return app.announce(`Cut the wire of ${input}.`);
  });
}

/** Tab goes from node to node; inside of one, through its ports and fields. @param {App} app @param {KeyboardEvent} event @param {HTMLElement} node @param {HTMLElement} at */
function onTab(app, event, node, at) {
  const stops = stopsIn(node);
  const isEdge = event.shiftKey ? at === stops[0] : at === stops.at(-1);
  if (at !== node && !isEdge) return;
  if (at !== node && event.shiftKey) return taken(event, () => node.focus());
  const order = readingOrder(app);
  const next = order[order.indexOf(node.dataset.id ?? "") + (event.shiftKey ? -1 : 1)];
  taken(event, () => (next === undefined ? leaveGraph(event.shiftKey) : goTo(app, next)));
}

/** @param {App} app @param {HTMLElement} node */
function enterNode(app, node) {
  const stops = stopsIn(node);
  const first = stops.find((stop) => stop.matches("input, textarea, select")) ?? stops[0];
  app.tab.editor.select([node.dataset.id ?? ""]);
  first?.focus();
}

/** Escape: from inside of a node to it, from it to the canvas. @param {App} app @param {HTMLElement} node @param {HTMLElement} at */
function leave(app, node, at) {
  if (at !== node) {
    app.tab.editor.select([node.dataset.id ?? ""]);
    return node.focus();
  }
  app.tab.editor.select([]);
  return focusCanvas();
}

/** Arrows on the bare canvas: into the graph, or they move what is selected. @param {App} app @param {KeyboardEvent} event @param {HTMLElement} at */
function onCanvasArrow(app, event, at) {
  const graph = document.querySelector(".react-flow");
  if (!graph) return undefined;
  if (!app.tab.editor.store.getState().selection.size) return taken(event, () => enterGraph(app));
  return graph.contains(at) ? undefined : taken(event, () => graph.dispatchEvent(new KeyboardEvent("keydown", event)));
}

/** @param {App} app */
function enterGraph(app) {
  const [first] = readingOrder(app);
  if (first) goTo(app, first);
}

/** @param {App} app @param {string} id */
function goTo(app, id) {
  const { editor, view } = app.tab;
  editor.select([id]);
  if (!document.querySelector(`.react-flow__node[data-id="${CSS.escape(id)}"]`)) view.reveal(id);
  focusNode(id);
}

/** The canvas is left for what comes before or after it. @param {boolean} isBack */
function leaveGraph(isBack) {
  const graph = document.querySelector(".react-flow");
  if (isBack || !graph) return focusCanvas();
  const next = stopsIn(document.body).find((stop) => !graph.contains(stop) && graph.compareDocumentPosition(stop) & Node.DOCUMENT_POSITION_FOLLOWING);
  return next ? next.focus() : focusCanvas();
}

/** F6: from the bar to the canvas to the panels. @param {HTMLElement} at @param {boolean} isBack */
function nextRegion(at, isBack) {
  const regions = [...document.querySelectorAll(REGIONS)];
  const here = regions.findIndex((region) => region.contains(at));
  const next = regions[(here + (isBack ? -1 : 1) + regions.length) % regions.length];
  if (next?.matches(".react-flow")) focusCanvas();
  else if (next) stopsIn(next)[0]?.focus();
}

/** The nodes and notes as they are read: by columns, from above. @param {App} app */
function readingOrder({ tab: { editor: { doc } } }) {
  const notes = Object.entries(doc.ui?.notes ?? {}).map(([id, { position }]) => ({ id, x: position?.[0] ?? 0, y: position?.[1] ?? 0 }));
  const nodes = Object.keys(doc.nodes).map((id) => ({ id, x: doc.ui?.positions?.[id]?.[0] ?? 0, y: doc.ui?.positions?.[id]?.[1] ?? 0 }));
  return [...nodes, ...notes].sort((one, other) => Math.round(one.x / COLUMN) - Math.round(other.x / COLUMN) || one.y - other.y || one.x - other.x).map(({ id }) => id);
}

/** @param {App} app @param {ClipboardEvent} event @param {boolean} isCut */
function onCopy(app, event, isCut) {
  if (!isOurs(app, event.target) || !(getSelection()?.isCollapsed ?? true)) return;
  const text = copied(app);
  if (!text) return;
  event.clipboardData?.setData("text/plain", text);
  event.preventDefault();
  if (isCut) cutChosen(app);
}

/** @param {App} app @param {ClipboardEvent} event @param {boolean} isLinkedOutside */
function onPaste(app, event, isLinkedOutside) {
  if (!isOurs(app, event.target) || !event.clipboardData) return;
  const picture = pictureIn(event.clipboardData);
  const text = event.clipboardData.getData("text/plain");
  if (!picture && !text) return;
  event.preventDefault();
  if (picture) void pastePicture(app, picture);
  else void pasteText(app, text, { isLinkedOutside }).then((isDone) => isDone || app.announce("The clipboard holds no workflow."));
}

/** True for what happens on the canvas, and not in a field. @param {App} app @param {EventTarget | null} target */
function isOurs(app, target) {
  const at = /** @type {Element | null} */ (target);
  return Boolean(app.tab) && !app.store.getState().overlay && document.querySelector(".react-flow") !== null && !at?.closest?.("input, textarea, select, [contenteditable=true], .dock");
}

/** @param {Element} at */
const isCanvas = (at) => at === document.body || at.matches(".react-flow, .react-flow__pane, .stage");

/** Does something in place of what a key would do. @param {KeyboardEvent} event @param {() => void} act */
function taken(event, act) {
  event.preventDefault();
  event.stopPropagation();
  act();
}
