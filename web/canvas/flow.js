/** What React Flow draws, derived from the document: the same objects as before for what did not change. Pure. */

import { accepts, inputsOf, isLink, outputsOf, placeOf, typeOfLink } from "../graph/ports.js";
import { shapeOf } from "../graph/geometry.js";

/** @import {Doc, NodeDoc, Specs} from "../graph/types.js" */
/** @import {Shape} from "../graph/geometry.js" */

/** How far from the middle of a port React Flow has the end of a wire: half of the port's target. */
export const PORT_REACH = 12;
const TARGET = 2 * PORT_REACH;

/**
 * @typedef {object} NodeData what a node on the canvas is drawn from
 * @property {NodeDoc} [node]
 * @property {Shape} [shape]
 * @property {import("../graph/types.js").Group} [group]
 * @property {import("../graph/types.js").Note} [note]
 *
 * @typedef {import("../vendor/flow.js").Node<NodeData>} FlowNode
 * @typedef {import("../vendor/flow.js").Edge<{type: string, isWrong: boolean}>} FlowEdge
 */

/**
 * The nodes, notes and groups of a document.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {ReadonlySet<string>} selection
 * @param {FlowNode[]} before
 * @param {Doc | null} docBefore the document `before` is of; null when all has to be made anew
 * @returns {FlowNode[]}
 */
export function flowNodes(doc, specs, selection, before, docBefore) {
  const old = new Map(before.map((node) => [node.id, node]));
  const groups = (doc.ui?.groups ?? []).map((group) => same(old.get(group.id), {
    id: group.id, type: "group", position: { x: group.bounding[0], y: group.bounding[1] }, data: { group },
    width: group.bounding[2], height: group.bounding[3], zIndex: -1, selected: selection.has(group.id),
  }, (data) => data.group === group));
  const notes = Object.entries(doc.ui?.notes ?? {}).map(([id, note]) => same(old.get(id), {
    id, type: "note", position: at(note.position), data: { note }, selected: selection.has(id),
    width: note.size?.[0] ?? 220, height: note.size?.[1] ?? 120,
  }, (data) => data.note === note));
  const nodes = Object.keys(doc.nodes).map((id) => {
    const node = doc.nodes[id];
    const known = old.get(id);
    const isSame = docBefore?.nodes[id] === node && looksAlike(doc, docBefore, id) && node.class_type !== "Reroute" && specs.nodes.has(node.class_type);
    const data = isSame && known ? known.data : { node, shape: shapeOf(doc, specs, id) };
    return same(known, nodeOf(doc, id, data, selection), (other) => other === data);
  });
  return [...groups, ...notes, ...nodes];
}

/**
 * The wires of a document. A wire's id is where it ends: `to.input`.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {ReadonlySet<string>} selection
 * @param {FlowEdge[]} before
 * @param {Doc | null} docBefore
 * @returns {FlowEdge[]}
 */
export function flowEdges(doc, specs, selection, before, docBefore) {
  const old = new Map(before.map((edge) => [edge.id, edge]));
  /** @type {FlowEdge[]} */
  const edges = [];
  for (const [id, node] of Object.entries(doc.nodes)) {
    for (const [name, link] of Object.entries(node.inputs)) {
      if (!isLink(link) || !doc.nodes[link[0]]) continue;
      const key = `${id}.${name}`;
      const known = old.get(key);
      const selected = selection.has(key);
      const isSame = known && docBefore?.nodes[id] === node && docBefore.nodes[link[0]] === doc.nodes[link[0]];
      if (isSame && known.selected === selected && doc.nodes[link[0]].class_type !== "Reroute") {
        edges.push(known);
        continue;
      }
      const type = typeOfLink(doc, specs, link);
      const wanted = inputsOf(doc, specs, id).find((input) => input.name === name)?.port;
      const place = placeOf(outputsOf(doc, specs, link[0]), link[1]);
      const isWrong = place < 0 || (wanted !== undefined && !accepts(type, wanted));
      edges.push({
        id: key, type: "wire", source: link[0], target: id, sourceHandle: `out:${Math.max(0, place)}`,
        targetHandle: `in:${name}`, selected, data: { type, isWrong },
        ariaLabel: `wire from ${link[0]} ${link[1]} to ${id} ${name}`,
      });
    }
  }
  return edges;
}

/**
 * @param {Doc} doc
 * @param {string} id
 * @param {NodeData} data
 * @param {ReadonlySet<string>} selection
 * @returns {FlowNode}
 */
function nodeOf(doc, id, data, selection) {
  const { width, height, ports } = /** @type {Shape} */ (data.shape);
  return {
    id, type: data.node?.class_type === "Reroute" ? "reroute" : "node", position: at(doc.ui?.positions?.[id]), data,
    width, initialHeight: height, selected: selection.has(id),
    handles: ports.map((port) => ({
      id: port.id, type: port.type, position: /** @type {any} */ (port.type === "target" ? "left" : "right"),
      x: port.x - PORT_REACH, y: port.y - PORT_REACH, width: TARGET, height: TARGET,
    })),
  };
}

/**
 * The old object where nothing of it changed; else the new one with what React Flow measured of the old.
 * @param {FlowNode | undefined} old
 * @param {FlowNode} node
 * @param {(data: NodeData) => boolean} isSame
 * @returns {FlowNode}
 */
function same(old, node, isSame) {
  if (!old) return node;
  if (old.dragging) return { ...node, position: old.position, dragging: true, measured: old.measured };
  const isStill = old.position.x === node.position.x && old.position.y === node.position.y;
  if (isStill && isSame(old.data) && Boolean(old.selected) === node.selected && old.width === node.width && old.type === node.type) return old;
  return isSame(old.data) ? { ...node, measured: old.measured } : node;
}

/** @param {Doc} doc @param {Doc} before @param {string} id */
function looksAlike(doc, before, id) {
  return doc.ui?.sizes?.[id] === before.ui?.sizes?.[id] && doc.ui?.collapsed?.[id] === before.ui?.collapsed?.[id]
    && doc.ui?.colors?.[id] === before.ui?.colors?.[id];
}

/** @param {[number, number] | undefined} place */
function at(place) {
  return { x: place?.[0] ?? 0, y: place?.[1] ?? 0 };
}
