/** A wire under the pointer: from a port to a port, a node or the open canvas. One gesture, one step. */

import { connect, setInput } from "../graph/document.js";
import { fittingInputs, fittingOutputs, inputsOf, isLink, misfit, outputsOf, placeOf, typeOfLink } from "../graph/ports.js";
import { markFitting, markOver, unmark } from "./marks.js";
import { follow, rimPan } from "./pointer.js";

/** @import {App, Tab} from "../state/app.js" */
/** @import {Doc, Link, Specs} from "../graph/types.js" */
/** @import {PortPlace} from "../graph/geometry.js" */
/** @import {FlowNode} from "./flow.js" */

const REACH = 26; // pixels of the screen from which a port takes a wire

/**
 * @typedef {{x: number, y: number}} Point
 *
 * @typedef {object} Loose a wire with a loose end
 * @property {Doc} doc the document without it
 * @property {Link} [from] the output that it comes from; missing when it is its beginning that is loose
 * @property {{node: string, input: string}} [to] the input that it goes to
 * @property {{node: string, input: string}} [off] the input that it was taken off
 * @property {string} type
 *
 * @typedef {{fixed: Point, loose: Point, type: string, isFromOutput: boolean}} Draft the wire as drawn
 *
 * @typedef {object} Over what the loose end is over
 * @property {string} node
 * @property {string} [handle] a port, else the node as a whole
 * @property {Point} [at] the port's place
 * @property {string} why it does not fit there; "" when it does
 * @property {Doc} [doc] the document with it there
 *
 * @typedef {object} Ground what gestures need of the canvas
 * @property {HTMLElement} element
 * @property {() => FlowNode[]} nodes
 * @property {() => number} zoom
 * @property {(by: Point) => void} panBy
 * @property {(draft: Draft | null) => void} draw
 */

/**
 * Begins a wire at a port that was pressed; a taken input gives its wire off.
 * @param {App} app
 * @param {Tab} tab
 * @param {Ground} ground
 * @param {PointerEvent} event
 * @param {HTMLElement} port
 */
export function dragWire(app, tab, ground, event, port) {
  const wire = looseAt(tab.editor.doc, app.specs, port);
  const fixed = fixedEnd(ground.nodes(), wire);
  if (!fixed) return;
  let isBegun = false;
  /** @type {Over | null} */
  let over = null;
  const show = (/** @type {PointerEvent} */ now) => {
    const at = tab.view.toFlow(now.clientX, now.clientY);
    over = isInside(ground.element, now) ? overAt(wire, app.specs, ground, at) : null;
    markOver(ground.element, over);
    ground.draw({ fixed, loose: (!over?.why && over?.at) || at, type: wire.type, isFromOutput: Boolean(wire.from) });
  };
  const pan = rimPan(ground.element, ground.panBy, show);
  follow(event, {
    onMove(now) {
      if (!isBegun) markFitting(ground, wire);
      isBegun = true;
      pan.at(now);
      show(now);
    },
    onEnd(now) {
      pan.stop();
      ground.draw(null);
      unmark(ground.element);
      if (now && isBegun) drop(app, tab, ground.element, wire, over, now);
    },
  });
}

/**
 * The wire that a port gives.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {HTMLElement} port
 * @returns {Loose}
 */
function looseAt(doc, specs, port) {
  const { nodeid: node = "", handleid: handle = "" } = port.dataset;
  if (handle.startsWith("out:")) {
    const from = /** @type {Link} */ ([node, Number(handle.slice(4))]);
    return { doc, from, type: typeOfLink(doc, specs, from) };
  }
  const input = handle.slice(3);
  const link = doc.nodes[node].inputs[input];
  if (isLink(link) && doc.nodes[link[0]]) {
    return { doc: setInput(doc, node, input, undefined), from: link, off: { node, input }, type: typeOfLink(doc, specs, link) };
  }
  return { doc, to: { node, input }, type: inputsOf(doc, specs, node).find((item) => item.name === input)?.port ?? "*" };
}

/**
 * What a palette is asked for, for the loose end of a wire.
 * @param {Loose} wire
 * @param {Specs} specs
 */
function asked({ doc, from, to }, specs) {
  return { from: from ? { node: from[0], place: Math.max(0, placeOf(outputsOf(doc, specs, from[0]), from[1])) } : null, to: to ?? null };
}

/**
 * @param {App} app
 * @param {Tab} tab
 * @param {HTMLElement} element
 * @param {Loose} wire
 * @param {Over | null} over
 * @param {PointerEvent} now
 */
function drop(app, tab, element, wire, over, now) {
  const { off } = wire;
  if (over?.why) return app.toast(over.why);
  const isBack = over && off && over.node === off.node && (!over.handle || over.handle === `in:${off.input}`);
  if (isBack || !isInside(element, now)) return undefined;
  const cut = (/** @type {Doc} */ doc) => (off && doc.nodes[off.node] ? setInput(doc, off.node, off.input, undefined) : doc);
  const joined = over?.doc;
  if (joined) {
    const [target, input] = wire.to ? [wire.to.node, wire.to.input] : [over.node, over.handle?.slice(3) ?? ""];
    const link = joined.nodes[target].inputs[input];
    return tab.editor.edit(off ? "Move a wire" : "Connect", (doc) => (doc.nodes[target] ? setInput(cut(doc), target, input, link) : doc));
  }
  if (off) return tab.editor.edit("Cut a wire", cut);
  return app.show({ kind: "palette", at: { x: now.clientX, y: now.clientY }, ...asked(wire, app.specs) });
}

/**
 * The port, or else the node, at a place.
 * @param {Loose} wire
 * @param {Specs} specs
 * @param {Ground} ground
 * @param {Point} at
 * @returns {Over | null}
 */
function overAt(wire, specs, ground, at) {
  const reach = REACH / ground.zoom();
  const own = wire.from?.[0] ?? wire.to?.node;
  let nearest = { distance: reach, node: "", port: /** @type {PortPlace | null} */ (null), at };
  let body = "";
  for (const { id, position, measured, data } of ground.nodes()) {
    if (!data.shape || id === own) continue;
    const { x, y } = { x: at.x - position.x, y: at.y - position.y };
    const { width = 0, height = 0 } = measured ?? {};
    if (x < -reach || y < -reach || x > width + reach || y > height + reach) continue;
    if (x >= 0 && y >= 0 && x <= width && y <= height) body = id;
    for (const port of data.shape.ports) {
      const distance = Math.hypot(port.x - x, port.y - y);
      if (port.type !== (wire.from ? "target" : "source") || distance >= nearest.distance) continue;
      nearest = { distance, node: id, port, at: { x: position.x + port.x, y: position.y + port.y } };
    }
  }
  if (nearest.port) return { ...atPort(wire, specs, nearest.node, nearest.port), at: nearest.at };
  return body ? atNode(wire, specs, body) : null;
}

/**
 * @param {Loose} wire
 * @param {Specs} specs
 * @param {string} node
 * @param {PortPlace} port
 * @returns {Over}
 */
function atPort({ doc, from, to }, specs, node, port) {
  const link = from ?? /** @type {Link} */ ([node, Number(port.id.slice(4))]);
  const [target, input] = to ? [to.node, to.input] : [node, port.name];
  const why = misfit(doc, specs, link, target, input);
  return { node, handle: port.id, why, doc: why ? undefined : connect(doc, specs, link, target, input) };
}

/**
 * @param {Loose} wire
 * @param {Specs} specs
 * @param {string} node
 * @returns {Over}
 */
function atNode({ doc, from, to, off, type }, specs, node) {
  if (off?.node === node) return { node, why: "" };
  if (to) {
    const [place] = fittingOutputs(doc, specs, node, to.node, to.input);
    return place === undefined ? { node, why: `Nothing of this node fits ${type}.` }
      : { node, handle: `out:${place}`, why: "", doc: connect(doc, specs, [node, place], to.node, to.input) };
  }
  const fitting = fittingInputs(doc, specs, /** @type {Link} */ (from), node);
  const free = fitting.find((input) => !isLink(doc.nodes[node].inputs[input.name]));
  if (!free) return { node, why: fitting.length ? "What fits of this node is taken; drop on an input to replace its wire." : `Nothing of this node takes ${type}.` };
  return { node, handle: `in:${free.name}`, why: "", doc: connect(doc, specs, /** @type {Link} */ (from), node, free.name) };
}

/**
 * Where the fixed end of a wire is.
 * @param {FlowNode[]} nodes
 * @param {Loose} wire
 * @returns {Point | null}
 */
function fixedEnd(nodes, { from, to }) {
  const node = nodes.find(({ id }) => id === (from?.[0] ?? to?.node));
  const { ports, outputs } = node?.data.shape ?? { ports: [], outputs: [] };
  const handle = from ? `out:${placeOf(outputs, from[1])}` : `in:${to?.input}`;
  const port = ports.find(({ id }) => id === handle);
  return node && port ? { x: node.position.x + port.x, y: node.position.y + port.y } : null;
}

/** @param {HTMLElement} element @param {PointerEvent} event */
function isInside(element, { clientX, clientY }) {
  const box = element.getBoundingClientRect();
  return clientX > box.left && clientX < box.right && clientY > box.top && clientY < box.bottom;
}
