/** What the clipboard holds: a part of a document, as a document of its own. Pure. */

import { parse } from "../net/exact.js";
import { freshGroupId } from "./adding.js";
import { EMPTY, nodeOf, pruned, settled } from "./document.js";
import { boundsOf } from "./geometry.js";
import { isLink } from "./ports.js";

/** @import {Doc, Group, Link, NodeDoc, Note, Specs, Ui} from "./types.js" */

const A1111 = /^Steps: ?\d+,/m; // its fields, as the server finds them
const BY_NODE = /** @type {const} */ (["positions", "sizes", "collapsed", "colors"]);

/**
 * A part of a document as a document: its nodes with the wires between them. The wires that came from elsewhere are kept
 * aside in `ui.outside`, by address.
 * @param {Doc} doc
 * @param {Iterable<string>} ids of nodes, notes and groups
 * @returns {Doc}
 */
export function fragment(doc, ids) {
  const chosen = new Set(ids);
  const nodes = Object.fromEntries(Object.entries(doc.nodes).filter(([id]) => chosen.has(id)));
  /** @type {Record<string, Link>} */
  const outside = {};
  const inside = Object.fromEntries(Object.entries(nodes).map(([id, node]) => {
    const inputs = Object.entries(node.inputs).filter(([name, value]) => {
      const isOutside = isLink(value) && !(value[0] in nodes);
      if (isOutside) outside[`${id}.${name}`] = value;
      return !isOutside;
    });
    return [id, { ...node, inputs: Object.fromEntries(inputs) }];
  }));
  /** @type {Ui} */
  const ui = { outside: some(outside) };
  for (const field of BY_NODE) ui[field] = /** @type {any} */ (some(only(/** @type {any} */ (doc.ui?.[field]), (id) => id in nodes)));
  ui.seeds = some(only(doc.ui?.seeds, (address) => nodeOf(address) in nodes));
  ui.notes = some(only(doc.ui?.notes, (id) => chosen.has(id)));
  const groups = doc.ui?.groups?.filter((group) => chosen.has(group.id));
  return { nodegraph: doc.nodegraph, nodes: inside, ui: pruned({ ...ui, groups: groups?.length ? groups : undefined }) };
}

/**
 * Puts a document into another, with new ids -> the document and the ids of what came.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {Doc} part
 * @param {{place?: {x: number, y: number}, shift?: [number, number], isLinkedOutside?: boolean}} [how] `place` is where
 *   its upper left corner comes to lie, else it is shifted; `isLinkedOutside`: its wires from elsewhere come too, where
 *   the document has their nodes
 * @returns {[Doc, string[]]}
 */
export function pasted(doc, specs, part, { place, shift = [0, 0], isLinkedOutside = false } = {}) {
  const corner = cornerOf(part, specs);
  const [dx, dy] = place && corner ? [Math.round(place.x - corner.x), Math.round(place.y - corner.y)] : shift;
  const ids = freshIds(doc, part);
  const nodes = Object.entries(part.nodes).map(([id, node]) => /** @type {const} */ ([ids.get(id), relinked(node, ids)]));
  const ui = part.ui ?? {};
  const key = (/** @type {string} */ id) => ids.get(id) ?? id;
  const shifted = (/** @type {[number, number]} */ [x, y]) => /** @type {[number, number]} */ ([x + dx, y + dy]);
  let found = /** @type {Doc} */ ({ ...doc, nodes: { ...doc.nodes, ...Object.fromEntries(nodes) } });
  /** @type {Ui} */
  const looks = { ...doc.ui };
  for (const field of BY_NODE) looks[field] = /** @type {any} */ (joined(/** @type {any} */ (doc.ui?.[field]), /** @type {any} */ (ui[field]), key, field === "positions" ? shifted : undefined));
  looks.seeds = joined(doc.ui?.seeds, ui.seeds, (address) => `${key(nodeOf(address))}${address.slice(nodeOf(address).length)}`);
  looks.notes = joined(doc.ui?.notes, ui.notes, key, (/** @type {Note} */ note) => ({ ...note, position: shifted(note.position ?? [0, 0]) }));
  const groups = (ui.groups ?? []).map((group) => movedGroup(group, key(group.id), dx, dy));
  looks.groups = groups.length ? [...(doc.ui?.groups ?? []), ...groups] : doc.ui?.groups;
  found = { ...found, ui: pruned(looks) };
  if (isLinkedOutside) found = withOutside(found, doc, ui.outside ?? {}, ids);
  return [found, [...ids.values()]];
}

/**
 * A text of the clipboard as a document: ours or ComfyUI's API form. `"foreign"` for ComfyUI's editor file and what A1111
 * wrote, which the server has to read; null for any other text.
 * @param {string} text
 * @param {Specs} specs
 * @param {(doc: Doc, ids: string[]) => Map<string, [number, number]>} arrange places nodes that have none
 * @returns {Doc | "foreign" | null}
 */
export function parsed(text, specs, arrange) {
  if (A1111.test(text)) return "foreign";
  if (!text.trimStart().startsWith("{")) return null;
  /** @type {any} */
  let found;
  try {
    found = parse(text);
  } catch {
    return null;
  }
  if (Array.isArray(found.nodes)) return "foreign";
  const nodes = found.nodegraph ? found.nodes : found;
  const isGraph = nodes && typeof nodes === "object" && Object.values(nodes).every(isNode);
  if (!isGraph || (!found.nodegraph && !Object.keys(nodes).length)) return null;
  return settled(found.nodegraph ? found : { ...EMPTY, nodes }, specs, arrange);
}

/** @param {any} node */
function isNode(node) {
  return node !== null && typeof node === "object" && typeof node.class_type === "string"
    && (node.inputs === undefined || (node.inputs !== null && typeof node.inputs === "object"));
}

/**
 * The upper left corner of all that a document holds.
 * @param {Doc} part
 * @param {Specs} specs
 */
function cornerOf(part, specs) {
  const box = boundsOf(part, specs, Object.keys(part.nodes));
  const corners = [
    ...(box ? [[box.x, box.y]] : []),
    ...Object.values(part.ui?.notes ?? {}).map((note) => note.position ?? [0, 0]),
    ...(part.ui?.groups ?? []).map((group) => group.bounding),
  ];
  if (!corners.length) return null;
  return { x: Math.min(...corners.map(([x]) => x)), y: Math.min(...corners.map(([, y]) => y)) };
}

/**
 * New ids for all that a document holds.
 * @param {Doc} doc
 * @param {Doc} part
 */
function freshIds(doc, part) {
  const taken = [...Object.keys(doc.nodes), ...Object.keys(doc.ui?.notes ?? {})].map(Number).filter(Number.isInteger);
  let next = Math.max(0, ...taken) + 1;
  /** @type {Map<string, string>} */
  const ids = new Map();
  for (const id of [...Object.keys(part.nodes), ...Object.keys(part.ui?.notes ?? {})]) ids.set(id, String(next++));
  let group = Number(freshGroupId(doc).replace("group", ""));
  for (const { id } of part.ui?.groups ?? []) ids.set(id, `group${group++}`);
  return ids;
}

/**
 * @param {NodeDoc} node
 * @param {Map<string, string>} ids
 * @returns {NodeDoc}
 */
function relinked(node, ids) {
  const inputs = Object.entries(node.inputs)
    .filter(([, value]) => !isLink(value) || ids.has(value[0]))
    .map(([name, value]) => [name, isLink(value) ? [ids.get(value[0]), value[1]] : value]);
  return { ...node, inputs: Object.fromEntries(inputs) };
}

/**
 * @param {Doc} found
 * @param {Doc} doc
 * @param {Record<string, Link>} outside
 * @param {Map<string, string>} ids
 */
function withOutside(found, doc, outside, ids) {
  const nodes = { ...found.nodes };
  for (const [address, link] of Object.entries(outside)) {
    const id = ids.get(nodeOf(address));
    if (!id || !doc.nodes[link[0]]) continue;
    nodes[id] = { ...nodes[id], inputs: { ...nodes[id].inputs, [address.slice(nodeOf(address).length + 1)]: link } };
  }
  return { ...found, nodes };
}

/** @param {Group} group @param {string} id @param {number} dx @param {number} dy @returns {Group} */
function movedGroup(group, id, dx, dy) {
  const [x, y, width, height] = group.bounding;
  return { ...group, id, bounding: [x + dx, y + dy, width, height] };
}

/**
 * @template T
 * @param {Record<string, T> | undefined} old
 * @param {Record<string, T> | undefined} more
 * @param {(key: string) => string} rename
 * @param {(value: any) => any} [change]
 * @returns {Record<string, T> | undefined}
 */
function joined(old, more, rename, change = (value) => value) {
  if (!more) return old;
  return { ...old, ...Object.fromEntries(Object.entries(more).map(([key, value]) => [rename(key), change(value)])) };
}

/**
 * @template T
 * @param {Record<string, T> | undefined} entries
 * @param {(key: string) => boolean} isKept
 * @returns {Record<string, T>}
 */
function only(entries, isKept) {
  return Object.fromEntries(Object.entries(entries ?? {}).filter(([key]) => isKept(key)));
}

/**
 * @template {object} T
 * @param {T} entries
 * @returns {T | undefined}
 */
const some = (entries) => (Object.keys(entries).length ? entries : undefined);
