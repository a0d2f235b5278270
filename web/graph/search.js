/** Search of node types, of commands and of what a document holds. Pure. */

import { fuzzysort } from "../vendor/search.js";
import { firstFit, isLink, titleOf, valueOf } from "./ports.js";

/** @import {Ask} from "./ports.js" */
/** @import {Doc, Spec, Specs} from "./types.js" */

const LEAST = 0.4; // score below which a match is by chance
const RECENT_BONUS = 0.08;
const PER_LETTER = 0.001; // of two that fit alike the shorter one comes first
const MOST = 80;
/** How much a match counts by where it is: title, type, category, first line of the doc. */
const WEIGHTS = [1, 0.95, 0.6, 0.55];

/**
 * Node types that fit a search, best first; all of them, by name, for an empty one.
 * @param {Specs} specs
 * @param {string} query
 * @param {string[]} [recent] names of types, the last used first
 * @param {Ask | null} [ask]
 * @returns {Spec[]}
 */
export function searchNodes(specs, query, recent = [], ask = null) {
  const found = [...specs.nodes.values()].filter((spec) => !ask || firstFit(spec, ask) !== null);
  if (!query.trim()) return found.sort((one, other) => (ask ? fitRank(one, ask) - fitRank(other, ask) : 0) || byTitle(one, other));
  return ranked(query, found, [
    (spec) => spec.title, (spec) => spec.name, (spec) => spec.category, (spec) => firstLine(spec.doc),
  ], WEIGHTS, (spec) => (recent.includes(spec.name) ? RECENT_BONUS : 0));
}

/**
 * What fits every word of a search in one of its texts, best first.
 * @template T
 * @param {string} query
 * @param {T[]} items
 * @param {((item: T) => string)[]} texts the first is its title
 * @param {number[]} [weights] of each text
 * @param {(item: T) => number} [bonus]
 * @returns {T[]}
 */
export function ranked(query, items, texts, weights = texts.map(() => 1), bonus = () => 0) {
  const asked = query.trim().split(/\s+/);
  const found = items.flatMap((item) => {
    const scores = asked.map((word) => Math.max(...texts.map((text, place) => (fuzzysort.single(word, text(item))?.score ?? 0) * weights[place])));
    const mean = scores.reduce((sum, score) => sum + score, 0) / asked.length;
    return Math.min(...scores) <= 0 || mean < LEAST ? [] : [{ item, score: mean + bonus(item) - texts[0](item).length * PER_LETTER }];
  });
  return found.sort((one, other) => other.score - one.score).slice(0, MOST).map(({ item }) => item);
}

/**
 * What a node type takes and gives, in a line.
 * @param {Spec} spec
 */
export function takesAndGives({ inputs, outputs }) {
  const takes = words(inputs.filter((input) => input.link_only).map((input) => input.port));
  const gives = words(outputs.map((output) => output.port));
  return [takes, gives && `→ ${gives}`].filter(Boolean).join(" ");
}

/**
 * A type of a port as people read it.
 * @param {string} port
 */
export function typeName(port) {
  return port === "*" ? "any" : port.toLowerCase().replaceAll("_", " ").replaceAll(",", " or ");
}

/**
 * The first line of a text.
 * @param {string | undefined} text
 */
export function firstLine(text) {
  return (text ?? "").split("\n")[0];
}

/**
 * @typedef {object} Found a node, note or group that a search found
 * @property {string} id
 * @property {string} title
 * @property {string} type of its node, "Note" or "Group"
 * @property {string} where what of it fits: an input and its value
 */

/**
 * What a document holds that fits a search: by title, type, id or value, in the order they are given.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string} query
 * @returns {Found[]}
 */
export function findInDoc(doc, specs, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (/** @type {string} */ text) => words.every((word) => text.toLowerCase().includes(word));
  /** @type {(Found & {rank: number})[]} */
  const found = [];
  const add = (/** @type {string} */ id, /** @type {string} */ title, /** @type {string} */ type, /** @type {string[]} */ values) => {
    const where = values.find(fits) ?? "";
    if (fits(`${title} ${type} ${id}`)) found.push({ id, title, type, where: words.length ? where : "", rank: id === query.trim() ? 0 : fits(title) ? 1 : 2 });
    else if (fits([title, type, id, ...values].join(" "))) found.push({ id, title, type, where: where || values[0] || "", rank: 3 });
  };
  for (const [id, node] of Object.entries(doc.nodes)) add(id, titleOf(doc, specs, id), node.class_type, valuesOf(node.inputs));
  for (const [id, note] of Object.entries(doc.ui?.notes ?? {})) add(id, note.title || "Note", "Note", [note.text]);
  for (const group of doc.ui?.groups ?? []) add(group.id, group.title, "Group", []);
  return found.sort((one, other) => one.rank - other.rank);
}

/** @param {Record<string, any>} inputs */
function valuesOf(inputs) {
  return Object.entries(inputs).filter(([, value]) => !isLink(value)).map(([name, value]) => {
    const bare = valueOf(value);
    return `${name}: ${typeof bare === "string" ? bare : JSON.stringify(bare)}`;
  });
}

/** @param {string[]} ports */
const words = (ports) => [...new Set(ports.map(typeName))].join(", ");

/** @param {Spec} one @param {Spec} other */
const byTitle = (one, other) => one.title.localeCompare(other.title);

/**
 * How far a node type is from what is meant by a wire: types that only fit after those of its own, and the deeper and the
 * stranger its category is, the later.
 * @param {Spec} spec
 * @param {Ask} ask
 */
function fitRank(spec, { side, type }) {
  const ports = side === "from" ? spec.inputs.filter((input) => input.link_only).map((input) => input.port) : spec.outputs.map((output) => output.port);
  const isExact = ports.includes(type);
  const isOdd = /^(_|advanced|api)/.test(spec.category);
  return (isExact ? 0 : 100) + (isOdd ? 20 : 0) + spec.category.split("/").length;
}
