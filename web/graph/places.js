/** Places for nodes that have none: columns by how far they are from what needs nothing. Pure; `L` lays out better. */

import { shapeOf } from "./geometry.js";
import { isLink } from "./ports.js";

/** @import {Doc, Specs} from "./types.js" */

const GAP = { x: 80, y: 40 };

/**
 * A function that finds places for some nodes of a document, right of those that have places.
 * @param {Specs} specs
 * @returns {(doc: Doc, ids: string[]) => Map<string, [number, number]>}
 */
export function arrange(specs) {
  return (doc, ids) => {
    const placed = Object.entries(doc.ui?.positions ?? {}).filter(([id]) => id in doc.nodes);
    const left = placed.length ? Math.max(...placed.map(([id, [x]]) => x + shapeOf(doc, specs, id).width)) + GAP.x : 0;
    const ranks = ranksOf(doc, new Set(ids));
    /** @type {Map<number, {x: number, y: number}>} */
    const columns = new Map();
    const widths = new Map();
    for (const id of ids) {
      const rank = ranks.get(id) ?? 0;
      widths.set(rank, Math.max(widths.get(rank) ?? 0, shapeOf(doc, specs, id).width));
    }
    let x = left;
    for (const rank of [...widths.keys()].sort((one, other) => one - other)) {
      columns.set(rank, { x, y: 0 });
      x += widths.get(rank) + GAP.x;
    }
    return new Map(ids.map((id) => {
      const column = /** @type {{x: number, y: number}} */ (columns.get(ranks.get(id) ?? 0));
      const place = /** @type {[number, number]} */ ([column.x, column.y]);
      column.y += shapeOf(doc, specs, id).height + GAP.y;
      return [id, place];
    }));
  };
}

/**
 * How many links the longest way to each node has; circles end where they are met again.
 * @param {Doc} doc
 * @param {Set<string>} ids
 */
function ranksOf(doc, ids) {
  /** @type {Map<string, number>} */
  const ranks = new Map();
  const open = new Set();
  const stack = [...ids].reverse();
  while (stack.length) {
    const id = /** @type {string} */ (stack.at(-1));
    const sources = Object.values(doc.nodes[id].inputs).filter(isLink).map(([source]) => source).filter((source) => ids.has(source));
    const missing = sources.filter((source) => !ranks.has(source) && !open.has(source));
    if (missing.length && !ranks.has(id)) {
      open.add(id);
      stack.push(...missing);
      continue;
    }
    stack.pop();
    if (!ranks.has(id)) ranks.set(id, Math.max(-1, ...sources.map((source) => ranks.get(source) ?? -1)) + 1);
    open.delete(id);
  }
  return ranks;
}
