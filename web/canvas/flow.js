/** What React Flow draws, derived from the document: the same objects as before for what did not change. Pure. */

import { REROUTE, accepts, inputsOf, isLink, outputsOf, placeOf, typeOfLink } from "../graph/ports.js";
import { shapeOf } from "../graph/geometry.js";

/** @import {Doc, NodeDoc, Spec, Specs} from "../graph/types.js" */
/** @import {Shape} from "../graph/geometry.js" */

/** How far from the middle of a port React Flow has the end of a wire: half of the port's target. */
export const PORT_REACH = 12;
const TARGET = 2 * PORT_REACH;
const NOTE = { width: 220, height: 120 };

/**
 * @typedef {object} NodeData what a node on the canvas is drawn from
 * @property {NodeDoc} [node]
 * @property {Shape} [shape]
 * @property {Spec} [spec] missing where its type is unknown
 * @property {boolean} [isCollapsed]
 * @property {string} [color]
 * @property {import("../graph/types.js").Group} [group]
 * @property {import("../graph/types.js").Note} [note]
 *
 * @typedef {import("../vendor/flow.js").Node<NodeData>} FlowNode
 * @typedef {import("../vendor/flow.js").Edge<{type: string, why: string}>} FlowEdge
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
    id: group.id, type: "frame", position: { x: group.bounding[0], y: group.bounding[1] }, data: { group }, zIndex: -1,
    ...sized(group.bounding[2], group.bounding[3]), selected: selection.has(group.id), dragHandle: ".group-header", style: { pointerEvents: "none" },
    ariaLabel: group.title || "Group",
  }, (data) => data.group === group));
  const notes = Object.entries(doc.ui?.notes ?? {}).map(([id, note]) => same(old.get(id), {
    id, type: "note", position: at(note.position), data: { note }, selected: selection.has(id),
    ...sized(note.size?.[0] ?? NOTE.width, note.size?.[1] ?? NOTE.height), ariaLabel: note.title || "Note",
  }, (data) => data.note === note));
  const nodes = Object.keys(doc.nodes).map((id) => {
    const node = doc.nodes[id];
    const known = old.get(id);
    const spec = specs.nodes.get(node.class_type);
    const isSame = docBefore?.nodes[id] === node && looksAlike(doc, docBefore, id) && ((spec && node.class_type !== REROUTE) || doc.nodes === docBefore.nodes);
    const data = isSame && known ? known.data : {
      node, spec, shape: shapeOf(doc, specs, id), isCollapsed: Boolean(doc.ui?.collapsed?.[id]), color: doc.ui?.colors?.[id],
    };
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
      if (isSame && known.selected === selected && (doc.nodes[link[0]].class_type !== REROUTE || doc.nodes === docBefore?.nodes)) {
        edges.push(known);
        continue;
      }
      const type = typeOfLink(doc, specs, link);
      const wanted = inputsOf(doc, specs, id).find((input) => input.name === name)?.port;
      const place = placeOf(outputsOf(doc, specs, link[0]), link[1]);
      const isUnfit = wanted !== undefined && !accepts(type, wanted);
      const why = place < 0 ? `There is no output ${link[1]}.` : isUnfit ? `${type} does not fit ${wanted}.` : "";
      edges.push({
        id: key, type: "wire", source: link[0], target: id, sourceHandle: `out:${Math.max(0, place)}`,
        targetHandle: `in:${name}`, selected, data: { type, why },
        ariaLabel: `wire from ${link[0]} ${link[1]} to ${id} ${name}`,
      });
    }
  }
  return edges;
}

/**
 * True when two documents look the same on the canvas, whatever else is different.
 * @param {Doc} doc
 * @param {Doc | null} before
 */
export function isDrawnAlike(doc, before) {
  return doc.nodes === before?.nodes && LOOKS.every((field) => doc.ui?.[field] === before.ui?.[field]);
}

const LOOKS = /** @type {const} */ (["positions", "sizes", "collapsed", "colors", "groups", "notes"]);

/**
 * @param {Doc} doc
 * @param {string} id
 * @param {NodeData} data
 * @param {ReadonlySet<string>} selection
 * @returns {FlowNode}
 */
function nodeOf(doc, id, data, selection) {
  const { width, height, ports } = /** @type {Shape} */ (data.shape);
  const { node, spec } = /** @type {Required<NodeData>} */ (data);
  return {
    id, type: node.class_type === REROUTE ? "reroute" : "node", position: at(doc.ui?.positions?.[id]), data,
    width, measured: { width, height }, selected: selection.has(id), ariaLabel: node._meta?.title || spec?.title || node.class_type,
    handles: ports.map((port) => ({
      id: port.id, type: port.type, position: /** @type {any} */ (port.type === "target" ? "left" : "right"),
      x: port.x - PORT_REACH, y: port.y - PORT_REACH, width: TARGET, height: TARGET,
    })),
  };
}

/** @param {number} width @param {number} height */
const sized = (width, height) => ({ width, height, measured: { width, height } });

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
  if (isSame(old.data)) {
    if (isStill && Boolean(old.selected) === node.selected) return old;
    return { ...node, measured: old.measured };
  }
  return { ...node, measured: { width: node.width, height: (node.measured?.height ?? 0) + hanging(old) } };
}

/** How much pictures and texts below its fields make a node higher. @param {FlowNode} node */
function hanging({ data, measured }) {
  return data.shape && !data.isCollapsed ? Math.max(0, (measured?.height ?? 0) - data.shape.height) : 0;
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
