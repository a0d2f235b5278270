/** Edits of a document: each takes one and gives another, sharing what did not change. Pure. */

import { isLink, outputsOf, placeOf, slotOf, written } from "./ports.js";

/** @import {Doc, Group, Link, NodeDoc, Note, Specs, Ui} from "./types.js" */

/** @type {Doc} */
export const EMPTY = Object.freeze({ nodegraph: 1, nodes: {} });
const BY_NODE = /** @type {const} */ (["positions", "sizes", "collapsed", "colors", "widgets_values", "properties"]);

/**
 * An id that no node or note has.
 * @param {Doc} doc
 */
export function freshId(doc) {
  const taken = [...Object.keys(doc.nodes), ...Object.keys(doc.ui?.notes ?? {})].map(Number).filter(Number.isInteger);
  return String(Math.max(0, ...taken) + 1);
}

/**
 * Adds a node of a type, with the defaults that have to be written -> the document and the node's id.
 * @param {Doc} doc
 * @param {string} classType
 * @param {[number, number]} position
 * @param {Partial<NodeDoc>} [rest]
 * @returns {[Doc, string]}
 */
export function addNode(doc, classType, position, rest) {
  const id = freshId(doc);
  const node = { class_type: classType, inputs: {}, ...rest };
  return [withUi({ ...doc, nodes: { ...doc.nodes, [id]: node } }, "positions", id, position), id];
}

/**
 * Changes one node.
 * @param {Doc} doc
 * @param {string} id
 * @param {Partial<NodeDoc>} changes undefined takes a field away
 * @returns {Doc}
 */
export function changeNode(doc, id, changes) {
  return { ...doc, nodes: { ...doc.nodes, [id]: pruned({ ...doc.nodes[id], ...changes }) } };
}

/**
 * Writes a value or a link into an input; undefined takes it out.
 * @param {Doc} doc
 * @param {string} id
 * @param {string} input
 * @param {any} value
 */
export function setInput(doc, id, input, value) {
  return changeNode(doc, id, { inputs: pruned({ ...doc.nodes[id].inputs, [input]: value }) });
}

/**
 * Sets the value of an input.
 * @param {Doc} doc
 * @param {string} id
 * @param {string} input
 * @param {any} value
 */
export function setValue(doc, id, input, value) {
  return setInput(doc, id, input, written(value));
}

/**
 * Draws a wire, in place of the one that was at the input. The link is saved by the output's name.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {Link} link
 * @param {string} id
 * @param {string} input
 */
export function connect(doc, specs, link, id, input) {
  return setInput(doc, id, input, named(doc, specs, link));
}

/**
 * A link by the name of its output.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {Link} link
 * @returns {Link}
 */
export function named(doc, specs, link) {
  if (!doc.nodes[link[0]] || !specs.nodes.has(doc.nodes[link[0]].class_type)) return link;
  const outputs = outputsOf(doc, specs, link[0]);
  const place = placeOf(outputs, link[1]);
  return place < 0 ? link : [link[0], slotOf(outputs, place)];
}

/**
 * Takes nodes out, with their wires, their place in the interface and how they looked.
 * @param {Doc} doc
 * @param {Iterable<string>} ids of nodes, notes and groups
 * @returns {Doc}
 */
export function remove(doc, ids) {
  const gone = new Set(ids);
  const nodes = Object.fromEntries(Object.entries(doc.nodes)
    .filter(([id]) => !gone.has(id))
    .map(([id, node]) => [id, withoutLinks(node, gone)]));
  const inputs = doc.inputs && Object.fromEntries(Object.entries(doc.inputs)
    .map(([name, item]) => /** @type {const} */ ([name, { ...item, bind: item.bind.filter((at) => !gone.has(nodeOf(at))) }]))
    .filter(([, item]) => item.bind.length));
  const outputs = doc.outputs && Object.fromEntries(Object.entries(doc.outputs).filter(([, at]) => !gone.has(nodeOf(at))));
  /** @type {any} */
  const ui = { ...doc.ui };
  for (const field of BY_NODE) if (ui[field]) ui[field] = without(ui[field], gone);
  if (ui.notes) ui.notes = without(ui.notes, gone);
  if (ui.seeds) ui.seeds = Object.fromEntries(Object.entries(ui.seeds).filter(([at]) => !gone.has(nodeOf(at))));
  if (ui.groups) ui.groups = ui.groups.filter((/** @type {Group} */ group) => !gone.has(group.id));
  return pruned({ ...doc, nodes, inputs, outputs, ui });
}

/**
 * Moves nodes, notes and groups.
 * @param {Doc} doc
 * @param {Map<string, [number, number]>} positions by id
 * @returns {Doc}
 */
export function move(doc, positions) {
  const places = { ...doc.ui?.positions };
  const notes = { ...doc.ui?.notes };
  for (const [id, place] of positions) {
    if (id in doc.nodes) places[id] = place;
    else if (notes[id]) notes[id] = { ...notes[id], position: place };
  }
  const groups = doc.ui?.groups?.map((group) => {
    const place = positions.get(group.id);
    return place ? { ...group, bounding: /** @type {Group["bounding"]} */ ([...place, ...group.bounding.slice(2)]) } : group;
  });
  return pruned({ ...doc, ui: pruned({ ...doc.ui, positions: places, notes: doc.ui?.notes && notes, groups }) });
}

/**
 * Sets how something looks: an entry of a field of `ui`; undefined takes it away.
 * @param {Doc} doc
 * @param {Exclude<keyof Ui, "groups" | "viewport" | "form">} field
 * @param {string} key
 * @param {any} value
 * @returns {Doc}
 */
export function withUi(doc, field, key, value) {
  const entries = pruned({ ...doc.ui?.[field], [key]: value });
  return { ...doc, ui: pruned({ ...doc.ui, [field]: Object.keys(entries).length ? entries : undefined }) };
}

/**
 * Adds or changes a group.
 * @param {Doc} doc
 * @param {Group} group
 * @returns {Doc}
 */
export function withGroup(doc, group) {
  const groups = doc.ui?.groups ?? [];
  const isOld = groups.some(({ id }) => id === group.id);
  return { ...doc, ui: { ...doc.ui, groups: isOld ? groups.map((old) => (old.id === group.id ? group : old)) : [...groups, group] } };
}

/**
 * Adds or changes a note.
 * @param {Doc} doc
 * @param {string} id
 * @param {Note} note
 */
export function withNote(doc, id, note) {
  return withUi(doc, "notes", id, note);
}

/**
 * A document as the canvas needs it: links by name, a place for each node, ids for groups. Nothing else changes, and
 * what has a place keeps it.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {(doc: Doc, ids: string[]) => Map<string, [number, number]>} arrange finds places for nodes that have none
 * @returns {Doc}
 */
export function settled(doc, specs, arrange) {
  const nodes = Object.fromEntries(Object.entries(doc.nodes).map(([id, node]) => {
    const inputs = Object.entries(node.inputs ?? {}).map(([name, value]) => [name, isLink(value) ? named(doc, specs, value) : value]);
    return [id, { ...node, inputs: Object.fromEntries(inputs) }];
  }));
  const groups = doc.ui?.groups?.map((group, place) => ({ ...group, id: typeof group.id === "string" && !(group.id in doc.nodes) ? group.id : `frame${place + 1}` }));
  const found = { ...doc, nodes, ...(doc.ui && { ui: pruned({ ...doc.ui, groups }) }) };
  const lost = Object.keys(nodes).filter((id) => !isPlace(doc.ui?.positions?.[id]));
  return lost.length ? move(found, arrange(found, lost)) : found;
}

/** @param {any} value */
function isPlace(value) {
  return Array.isArray(value) && value.length >= 2 && value.slice(0, 2).every(Number.isFinite);
}

/**
 * Where the name of an address begins: after its last dot; a name that ends in one, such as `out.`, after its first.
 * @param {string} address
 */
function cutOf(address) {
  return address.endsWith(".") ? address.indexOf(".") : address.lastIndexOf(".");
}

/**
 * The node of an address such as `6.text`.
 * @param {string} address
 */
export function nodeOf(address) {
  return address.slice(0, Math.max(0, cutOf(address)));
}

/**
 * The input or output of an address such as `6.text`.
 * @param {string} address
 */
export function portOf(address) {
  return address.slice(cutOf(address) + 1);
}

/**
 * @param {NodeDoc} node
 * @param {Set<string>} gone
 * @returns {NodeDoc}
 */
function withoutLinks(node, gone) {
  const entries = Object.entries(node.inputs);
  const kept = entries.filter(([, value]) => !(isLink(value) && gone.has(value[0])));
  return kept.length === entries.length ? node : { ...node, inputs: Object.fromEntries(kept) };
}

/**
 * @template T
 * @param {Record<string, T>} entries
 * @param {Set<string>} gone
 */
function without(entries, gone) {
  return Object.fromEntries(Object.entries(entries).filter(([id]) => !gone.has(id)));
}

/**
 * The same without fields that are undefined.
 * @template {object} T
 * @param {T} value
 * @returns {T}
 */
export function pruned(value) {
  return /** @type {T} */ (Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined)));
}
