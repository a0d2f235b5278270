/** What a gesture marks on the canvas while it lasts: at once, on the elements, so that nothing is drawn anew. */

import { accepts, needed, needs } from "../graph/ports.js";

/** @import {Ground, Loose, Over} from "./wiring.js" */

/**
 * Marks the ports that fit the loose end of a wire and those that do not.
 * @param {Ground} ground
 * @param {Loose} wire
 */
export function markFitting(ground, { doc, from, to, off, type }) {
  const own = from?.[0] ?? to?.node ?? "";
  const near = from ? needs(doc, own) : needed(doc, own);
  const types = new Map(ground.nodes().flatMap(({ id, data }) => (data.shape?.ports ?? []).map((port) => [`${id} ${port.id}`, port])));
  ground.element.dataset.wiring = from ? "from" : "to";
  for (const element of ground.element.querySelectorAll(".port")) {
    const { dataset } = /** @type {HTMLElement} */ (element);
    const port = types.get(`${dataset.nodeid} ${dataset.handleid}`);
    const isOther = port?.type === (from ? "target" : "source") && !near.has(dataset.nodeid ?? "");
    const isFit = isOther && (from ? accepts(type, port.port) : accepts(port.port, type));
    const isOwn = dataset.nodeid === own && port?.type === (from ? "source" : "target");
    if (!isOwn) dataset.fit = isFit ? "yes" : "no";
  }
  if (off) markWire(ground.element, `${off.node}.${off.input}`, "loose");
}

/**
 * Marks the port and the node that a wire is over.
 * @param {HTMLElement} element
 * @param {Over | null} over
 */
export function markOver(element, over) {
  for (const old of element.querySelectorAll("[data-over]")) old.removeAttribute("data-over");
  if (!over) return;
  const state = over.why ? "no" : "yes";
  element.querySelector(`.react-flow__node[data-id="${CSS.escape(over.node)}"]`)?.setAttribute("data-over", state);
  if (over.handle) element.querySelector(`.port[data-nodeid="${CSS.escape(over.node)}"][data-handleid="${CSS.escape(over.handle)}"]`)?.setAttribute("data-over", state);
}

/**
 * Marks a wire, by where it ends, and no other; "" marks none.
 * @param {HTMLElement} element
 * @param {string} id
 * @param {"loose" | "target"} mark
 */
export function markWire(element, id, mark) {
  for (const old of element.querySelectorAll(`[data-mark="${mark}"]`)) old.removeAttribute("data-mark");
  if (id) element.querySelector(`.react-flow__edge[data-id="${CSS.escape(id)}"]`)?.setAttribute("data-mark", mark);
}

/** Takes all marks away. @param {HTMLElement} element */
export function unmark(element) {
  delete element.dataset.wiring;
  markOver(element, null);
  for (const name of ["data-fit", "data-mark"]) for (const old of element.querySelectorAll(`[${name}]`)) old.removeAttribute(name);
}
