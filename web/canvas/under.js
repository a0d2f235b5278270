/** Which wire a node lies on. Pure. */

/** @import {FlowEdge, FlowNode} from "./flow.js" */

const STEPS = 14; // points of a wire that are looked at

/**
 * The wire that leads nearest to the middle of a node, of those that run through it and let it in; "" for none.
 * @param {Map<string, any>} nodes React Flow's, by id
 * @param {FlowEdge[]} edges
 * @param {FlowNode} node
 * @param {(wire: string) => boolean} letsIn
 */
export function wireUnder(nodes, edges, { id, position, measured }, letsIn) {
  const half = { x: (measured?.width ?? 0) / 2, y: (measured?.height ?? 0) / 2 };
  const middle = { x: position.x + half.x, y: position.y + half.y };
  /** @type {{id: string, distance: number}[]} */
  const near = [];
  for (const edge of edges) {
    if (edge.target === id || edge.source === id) continue;
    const from = portAt(nodes.get(edge.source), edge.sourceHandle);
    const to = portAt(nodes.get(edge.target), edge.targetHandle);
    if (!from || !to || misses(from, to, middle, half)) continue;
    const distance = nearest(from, to, middle, half);
    if (distance < Infinity) near.push({ id: edge.id, distance });
  }
  near.sort((one, other) => one.distance - other.distance);
  return near.find((wire) => letsIn(wire.id))?.id ?? "";
}

/** @typedef {{x: number, y: number}} Point */

/** @param {any} node @param {string | null | undefined} handle @returns {Point | null} */
function portAt(node, handle) {
  const port = node?.data.shape?.ports.find((/** @type {any} */ one) => one.id === handle);
  const at = node?.internals.positionAbsolute;
  return port && { x: at.x + port.x, y: at.y + port.y };
}

/** True where the node is far from all of the wire. @param {Point} from @param {Point} to @param {Point} middle @param {Point} half */
function misses(from, to, middle, half) {
  const bend = to.x < from.x ? Math.abs(to.x - from.x) / 2 + 60 : 0;
  return middle.x + half.x < Math.min(from.x, to.x) - bend || middle.x - half.x > Math.max(from.x, to.x) + bend
    || middle.y + half.y < Math.min(from.y, to.y) || middle.y - half.y > Math.max(from.y, to.y);
}

/** How near a wire comes to the middle, of its points within the node. @param {Point} from @param {Point} to @param {Point} middle @param {Point} half */
function nearest(from, to, middle, half) {
  const reach = to.x >= from.x ? (to.x - from.x) / 2 : 6.25 * Math.sqrt(from.x - to.x);
  let found = Infinity;
  for (let step = 1; step < STEPS; step += 1) {
    const t = step / STEPS;
    const x = bezier(from.x, from.x + reach, to.x - reach, to.x, t) - middle.x;
    const y = bezier(from.y, from.y, to.y, to.y, t) - middle.y;
    if (Math.abs(x) < half.x && Math.abs(y) < half.y) found = Math.min(found, Math.hypot(x, y));
  }
  return found;
}

/** @param {number} a @param {number} b @param {number} c @param {number} d @param {number} t */
function bezier(a, b, c, d, t) {
  const s = 1 - t;
  return s * s * s * a + 3 * s * s * t * b + 3 * s * t * t * c + t * t * t * d;
}
