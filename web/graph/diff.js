/** What two documents differ in: nodes, values and wires, whatever they look like. Pure. */

import { isLink, titleOf, valueOf } from "./ports.js";

/** @import {Doc, NodeDoc, Specs} from "./types.js" */

/**
 * @typedef {{id: string, title: string, classType: string}} NodeName
 *
 * @typedef {object} Change of an input of a node that both have
 * @property {NodeName} node as the later document has it
 * @property {string} input
 * @property {any} from undefined where it was not set
 * @property {any} to undefined where it is not set
 *
 * @typedef {object} Diff
 * @property {NodeName[]} added
 * @property {NodeName[]} removed
 * @property {Change[]} values
 * @property {Change[]} wires `from` and `to` name an output in words
 *
 * @typedef {{kind: "same" | "added" | "removed", text: string}} Piece of a text
 */

const MOST_PAIRS = 4_000_000; // of words, beyond which a text is shown as replaced
const LIKE_ENOUGH = 0.5;

/**
 * What makes one document into another. Nodes are the same by id and type, else by type and what they have.
 * @param {Doc} one
 * @param {Doc} other
 * @param {Specs} specs for titles
 * @returns {Diff}
 */
export function diffOf(one, other, specs) {
  const pairs = pairsOf(one, other);
  const taken = new Set(pairs.values());
  /** @type {Diff} */
  const diff = {
    added: Object.keys(other.nodes).filter((id) => !taken.has(id)).map((id) => nameOf(other, specs, id)),
    removed: Object.keys(one.nodes).filter((id) => !pairs.has(id)).map((id) => nameOf(one, specs, id)),
    values: [],
    wires: [],
  };
  for (const [before, after] of pairs) compare(diff, [one, before], [other, after], pairs, specs);
  return diff;
}

/**
 * How many differences there are.
 * @param {Diff} diff
 */
export const countOf = ({ added, removed, values, wires }) => added.length + removed.length + values.length + wires.length;

/**
 * What makes one text into another, word by word.
 * @param {string} from
 * @param {string} to
 * @returns {Piece[]}
 */
export function wordsOf(from, to) {
  const [one, other] = [from, to].map((text) => text.match(/\s+|[\p{L}\p{N}_'’-]+|./gsu) ?? []);
  let start = 0;
  while (start < one.length && start < other.length && one[start] === other[start]) start += 1;
  let end = 0;
  while (end < Math.min(one.length, other.length) - start && one[one.length - 1 - end] === other[other.length - 1 - end]) end += 1;
  const [left, right] = [one.slice(start, one.length - end), other.slice(start, other.length - end)];
  const middle = left.length * right.length > MOST_PAIRS
    ? [...left.map((text) => piece("removed", text)), ...right.map((text) => piece("added", text))]
    : merged(left, right);
  return joined([...one.slice(0, start).map((text) => piece("same", text)), ...middle, ...one.slice(one.length - end).map((text) => piece("same", text))]);
}

/**
 * Which node became which.
 * @param {Doc} one
 * @param {Doc} other
 * @returns {Map<string, string>}
 */
function pairsOf(one, other) {
  /** @type {Map<string, string>} */
  const pairs = new Map();
  for (const [id, node] of Object.entries(one.nodes)) if (other.nodes[id]?.class_type === node.class_type) pairs.set(id, id);
  const taken = new Set(pairs.values());
  const found = [];
  for (const [id, node] of Object.entries(one.nodes)) {
    if (pairs.has(id)) continue;
    for (const [twin, otherNode] of Object.entries(other.nodes)) {
      if (taken.has(twin) || otherNode.class_type !== node.class_type) continue;
      found.push({ id, twin, like: likeness(one, other, node, otherNode) });
    }
  }
  const isOnly = (/** @type {Doc} */ doc, /** @type {string} */ id) => (
    Object.values(doc.nodes).filter(({ class_type }) => class_type === doc.nodes[id].class_type).length === 1
  );
  for (const { id, twin, like } of found.sort((left, right) => right.like - left.like)) {
    if (pairs.has(id) || taken.has(twin) || (like < LIKE_ENOUGH && !(isOnly(one, id) && isOnly(other, twin)))) continue;
    pairs.set(id, twin);
    taken.add(twin);
  }
  return pairs;
}

/** How much of two nodes is the same, 0..1. @param {Doc} one @param {Doc} other @param {NodeDoc} node @param {NodeDoc} twin */
function likeness(one, other, node, twin) {
  const names = new Set([...Object.keys(node.inputs), ...Object.keys(twin.inputs)]);
  if (!names.size) return 1;
  const same = [...names].filter((name) => {
    const [left, right] = [node.inputs[name], twin.inputs[name]];
    if (isLink(left) && isLink(right)) return one.nodes[left[0]]?.class_type === other.nodes[right[0]]?.class_type;
    return isSame(left, right);
  });
  return same.length / names.size;
}

/** @param {Diff} diff @param {[Doc, string]} one @param {[Doc, string]} other @param {Map<string, string>} pairs @param {Specs} specs */
function compare(diff, [one, before], [other, after], pairs, specs) {
  const [was, is] = [one.nodes[before], other.nodes[after]];
  const node = nameOf(other, specs, after);
  for (const input of new Set([...Object.keys(was.inputs), ...Object.keys(is.inputs)])) {
    const [from, to] = [was.inputs[input], is.inputs[input]];
    if (isLink(from) && isLink(to) ? pairs.get(from[0]) === to[0] && isSlot(specs, other, from, to) : isSame(from, to)) continue;
    if (isLink(from) || isLink(to)) diff.wires.push({ node, input, from: endOf(one, specs, from), to: endOf(other, specs, to) });
    else diff.values.push({ node, input, from: valueOf(from), to: valueOf(to) });
  }
  if (was.mode !== is.mode) diff.values.push({ node, input: "mode", from: was.mode, to: is.mode });
  if (titleOf(one, specs, before) !== node.title) diff.values.push({ node, input: "title", from: titleOf(one, specs, before), to: node.title });
}

/** True when two links take the same output, be it by name or by number. @param {Specs} specs @param {Doc} other @param {any} from @param {any} to */
function isSlot(specs, other, from, to) {
  const outputs = specs.nodes.get(other.nodes[to[0]]?.class_type)?.outputs ?? [];
  const place = (/** @type {string | number} */ slot) => (typeof slot === "number" ? slot : outputs.findIndex(({ name }) => name === slot));
  return from[1] === to[1] || (place(from[1]) >= 0 && place(from[1]) === place(to[1]));
}

/** @param {Doc} doc @param {Specs} specs @param {any} written */
function endOf(doc, specs, written) {
  if (!isLink(written)) return valueOf(written);
  return `${doc.nodes[written[0]] ? titleOf(doc, specs, written[0]) : written[0]} · ${written[1]}`;
}

/** @param {Doc} doc @param {Specs} specs @param {string} id @returns {NodeName} */
function nameOf(doc, specs, id) {
  return { id, title: titleOf(doc, specs, id), classType: doc.nodes[id].class_type };
}

/** @param {any} one @param {any} other */
function isSame(one, other) {
  return one === other || JSON.stringify(valueOf(one)) === JSON.stringify(valueOf(other));
}

/** The longest common words of two lists, and what is between. @param {string[]} one @param {string[]} other @returns {Piece[]} */
function merged(one, other) {
  const wide = other.length + 1;
  const lengths = new Uint32Array((one.length + 1) * wide);
  for (let row = one.length - 1; row >= 0; row -= 1) {
    for (let column = other.length - 1; column >= 0; column -= 1) {
      lengths[row * wide + column] = one[row] === other[column]
        ? lengths[(row + 1) * wide + column + 1] + 1
        : Math.max(lengths[(row + 1) * wide + column], lengths[row * wide + column + 1]);
    }
  }
  /** @type {Piece[]} */
  const pieces = [];
  let [row, column] = [0, 0];
  while (row < one.length || column < other.length) {
    if (row < one.length && column < other.length && one[row] === other[column]) {
      pieces.push(piece("same", one[row]));
      row += 1;
      column += 1;
    } else if (column >= other.length || (row < one.length && lengths[(row + 1) * wide + column] >= lengths[row * wide + column + 1])) {
      pieces.push(piece("removed", one[row++]));
    } else pieces.push(piece("added", other[column++]));
  }
  return pieces;
}

/** @param {Piece["kind"]} kind @param {string} text @returns {Piece} */
const piece = (kind, text) => ({ kind, text });

/** @param {Piece[]} pieces @returns {Piece[]} */
function joined(pieces) {
  /** @type {Piece[]} */
  const found = [];
  for (const { kind, text } of pieces) {
    const last = found.at(-1);
    if (last?.kind === kind) last.text += text;
    else found.push({ kind, text });
  }
  return found;
}
