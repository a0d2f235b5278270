/** Which node of a document stands for a node of a run. Pure. */

/** Begins the ids of nodes that are only sent, to show what another node makes. */
export const LOOK = "look:";

/** @import {Doc} from "../graph/types.js" */

/**
 * The node of a document that stands for a node of a run: itself, or the node that it was made for: `2.0:1` and `2:1`
 * are inside of `2`. Null when there is none.
 * @param {Doc} doc
 * @param {string} node
 */
export function shownNode(doc, node) {
  if (node in doc.nodes) return node;
  for (let end = node.lastIndexOf(":"); end > 0; end = node.lastIndexOf(":", end - 1)) {
    const outer = node.slice(0, end);
    if (outer in doc.nodes) return outer;
    const round = outer.replace(/\.\d+$/, "");
    if (round in doc.nodes) return round;
  }
  return node.startsWith(LOOK) && node.slice(LOOK.length) in doc.nodes ? node.slice(LOOK.length) : null;
}
