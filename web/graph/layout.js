/** Where nodes would lie well: layers from left to right by dagre, and alignment. Pure; nothing moves by itself. */

import { move, withGroup } from "./document.js";
import { boundsOf, shapeOf } from "./geometry.js";
import { isLink } from "./ports.js";

/** @import {Doc, Specs} from "./types.js" */
/** @typedef {Map<string, [number, number]>} Places positions by id */

const GAP = { layer: 90, node: 36 };
const FRAME = { rim: 20, title: 50 }; // of groups

/**
 * A document with nodes in layers, their upper left corner where it was; groups stay around what lies in them.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string[]} ids
 * @returns {Promise<Doc>}
 */
export async function laidOut(doc, specs, ids) {
  const { Graph, layout } = await import("../vendor/layout.js");
  const graph = new Graph({ multigraph: true, compound: true });
  graph.setGraph({ rankdir: "LR", ranksep: GAP.layer, nodesep: GAP.node });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const id of ids) {
    const { width, height } = shapeOf(doc, specs, id);
    graph.setNode(id, { width, height });
  }
  const frames = membersOf(doc, specs, ids);
  for (const [group, members] of frames) {
    graph.setNode(group, {});
    for (const id of members) graph.setParent(id, group);
  }
  for (const id of ids) {
    for (const [name, value] of Object.entries(doc.nodes[id].inputs)) {
      if (isLink(value) && graph.hasNode(value[0])) graph.setEdge(value[0], id, {}, name);
    }
  }
  layout(graph);
  const corners = ids.map((id) => {
    const { x, y, width, height } = graph.node(id);
    return { id, x: x - width / 2, y: y - height / 2 };
  });
  const box = boundsOf(doc, specs, ids) ?? { x: 0, y: 0 };
  const [left, top] = [Math.min(...corners.map(({ x }) => x)), Math.min(...corners.map(({ y }) => y))];
  const moved = move(doc, new Map(corners.map(({ id, x, y }) => [id, [Math.round(x - left + box.x), Math.round(y - top + box.y)]])));
  return [...frames].reduce((found, [group, members]) => framed(found, specs, group, members), moved);
}

/**
 * The nodes that lie in each group: those with their middle in it; a group counts when all of them are laid out.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string[]} ids
 * @returns {Map<string, string[]>}
 */
function membersOf(doc, specs, ids) {
  const taken = new Set();
  const found = new Map();
  for (const { id: group, bounding: [left, top, width, height] } of doc.ui?.groups ?? []) {
    const members = Object.keys(doc.nodes).filter((id) => {
      const [x, y] = placeOf(doc, id);
      const shape = shapeOf(doc, specs, id);
      const [dx, dy] = [x + shape.width / 2 - left, y + shape.height / 2 - top];
      return dx > 0 && dy > 0 && dx < width && dy < height;
    });
    if (!members.length || !members.every((id) => ids.includes(id) && !taken.has(id))) continue;
    members.forEach((id) => taken.add(id));
    found.set(group, members);
  }
  return found;
}

/** @param {Doc} doc @param {Specs} specs @param {string} id @param {string[]} members @returns {Doc} */
function framed(doc, specs, id, members) {
  const group = doc.ui?.groups?.find((one) => one.id === id);
  const box = boundsOf(doc, specs, members);
  if (!group || !box) return doc;
  const { rim, title } = FRAME;
  return withGroup(doc, { ...group, bounding: [box.x - rim, box.y - title, box.width + 2 * rim, box.height + title + rim] });
}

/**
 * Places of nodes with their left sides, or their tops, in one line: that of the outermost.
 * @param {Doc} doc
 * @param {string[]} ids
 * @param {"left" | "top"} side
 * @returns {Places}
 */
export function aligned(doc, ids, side) {
  const axis = side === "left" ? 0 : 1;
  const line = Math.min(...ids.map((id) => placeOf(doc, id)[axis]));
  return new Map(ids.map((id) => [id, /** @type {[number, number]} */ (placeOf(doc, id).with(axis, line))]));
}

/**
 * Places of nodes with the same gaps between them, in the direction in which they are spread wider.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string[]} ids
 * @returns {Places}
 */
export function distributed(doc, specs, ids) {
  const box = boundsOf(doc, specs, ids);
  if (!box) return new Map();
  const [axis, size] = box.width > box.height ? [0, /** @type {const} */ ("width")] : [1, /** @type {const} */ ("height")];
  const sorted = [...ids].sort((one, other) => placeOf(doc, one)[axis] - placeOf(doc, other)[axis]);
  const sizes = sorted.map((id) => shapeOf(doc, specs, id)[size]);
  const gap = (box[size] - sizes.reduce((sum, one) => sum + one, 0)) / Math.max(1, ids.length - 1);
  let at = placeOf(doc, sorted[0])[axis];
  return new Map(sorted.map((id, place) => {
    const found = placeOf(doc, id).with(axis, Math.round(at));
    at += sizes[place] + gap;
    return [id, /** @type {[number, number]} */ (found)];
  }));
}

/** @param {Doc} doc @param {string} id */
const placeOf = (doc, id) => doc.ui?.positions?.[id] ?? [0, 0];
