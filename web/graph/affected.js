/** What an edit changes of what a run gives. Pure. */

import { nodeOf } from "./document.js";
import { isLink } from "./ports.js";

/** @import {Doc, NodeDoc, Specs} from "./types.js" */

/**
 * The ids of the nodes that a whole run is for: those that save or show something, and declared outputs.
 * @param {Doc} doc
 * @param {Specs} specs
 * @returns {string[]}
 */
function targetsOf(doc, specs) {
  const sinks = Object.keys(doc.nodes).filter((id) => specs.nodes.get(doc.nodes[id].class_type)?.kind === "sink");
  const declared = Object.values(doc.outputs ?? {}).map(nodeOf);
  return [...new Set([...sinks, ...declared])].filter((id) => doc.nodes[id] && !doc.nodes[id].mode);
}

/**
 * Those of them that an edit changes something for.
 * @param {Doc} before
 * @param {Doc} after
 * @param {Specs} specs
 * @returns {string[]}
 */
export function targetsChanged(before, after, specs) {
  /** @type {Map<string, boolean>} */
  const known = new Map();
  /** @param {string} id @returns {boolean} */
  const isChanged = (id) => {
    const found = known.get(id);
    if (found !== undefined) return found;
    const node = after.nodes[id];
    known.set(id, false); // also ends a circle
    const is = !node || !runsSame(before.nodes[id], node) || Object.values(node.inputs).some((value) => isLink(value) && isChanged(value[0]));
    known.set(id, is);
    return is;
  };
  return targetsOf(after, specs).filter(isChanged);
}

/** @param {NodeDoc | undefined} before @param {NodeDoc} after */
function runsSame(before, after) {
  if (before === after) return true;
  return before?.class_type === after.class_type && before.mode === after.mode
    && JSON.stringify(before.inputs) === JSON.stringify(after.inputs);
}
