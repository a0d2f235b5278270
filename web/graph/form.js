/** A workflow as a form: its declared inputs as fields, in order and in sections; and edits of what is declared. Pure. */

import { nodeOf, portOf, pruned, setValue } from "./document.js";
import { inputsOf, isLink, outputsOf, placeOf, slotOf, valueOf } from "./ports.js";

/** @import {Doc, FormDoc, InputDoc, InputSpec, Specs} from "./types.js" */

/** What a dragged field of a node is, in a drop. */
export const DRAGGED_FIELD = "application/x-nodegraph-field";

/**
 * @typedef {object} FormField a declared input
 * @property {string} name
 * @property {string} label
 * @property {string} doc
 * @property {boolean} required it must be given: what the document holds is only an example
 * @property {string} node the first of what it sets
 * @property {InputSpec | null} input null where what it sets is not there, or comes by a wire
 * @property {any} value
 *
 * @typedef {{title: string, fields: FormField[]}} FormSection
 */

/**
 * The form of a workflow: fields that are in no section come first, under no title.
 * @param {Doc} doc
 * @param {Specs} specs
 * @returns {FormSection[]}
 */
export function formOf(doc, specs) {
  const fields = new Map(orderOf(doc).map((name) => [name, fieldOf(doc, specs, name)]));
  const titled = (doc.ui?.form?.groups ?? []).map(({ title, inputs }) => ({
    title, fields: inputs.flatMap((name) => fields.get(name) ?? []),
  }));
  const grouped = new Set(titled.flatMap((section) => section.fields.map(({ name }) => name)));
  const rest = [...fields.values()].filter(({ name }) => !grouped.has(name));
  return [...(rest.length ? [{ title: "", fields: rest }] : []), ...titled];
}

/**
 * The names of the declared inputs in the order of the form.
 * @param {Doc} doc
 */
function orderOf(doc) {
  const names = Object.keys(doc.inputs ?? {});
  const wanted = (doc.ui?.form?.order ?? []).filter((name) => names.includes(name));
  return [...wanted, ...names.filter((name) => !wanted.includes(name))];
}

/** @param {Doc} doc @param {Specs} specs @param {string} name @returns {FormField} */
function fieldOf(doc, specs, name) {
  const item = /** @type {Record<string, InputDoc>} */ (doc.inputs)[name];
  const address = item.bind[0];
  const node = nodeOf(address);
  const given = doc.nodes[node]?.inputs[portOf(address)];
  const spec = doc.nodes[node] && inputsOf(doc, specs, node).find((input) => input.name === portOf(address));
  const label = item.title || inWords(name);
  return { name, label, doc: item.doc || spec?.doc || "", required: Boolean(item.required), node,
    input: spec && !isLink(given) ? spec : null, value: valueOf(given) };
}

/**
 * Sets a declared input: everything that it binds.
 * @param {Doc} doc
 * @param {string} name
 * @param {any} value
 */
export function setDeclared(doc, name, value) {
  const bind = doc.inputs?.[name]?.bind ?? [];
  return bind.reduce((found, at) => (found.nodes[nodeOf(at)] ? setValue(found, nodeOf(at), portOf(at), value) : found), doc);
}

/**
 * The declared input that sets an input of a node; "" for none.
 * @param {Doc} doc
 * @param {string} address
 */
export function declaredAs(doc, address) {
  return Object.entries(doc.inputs ?? {}).find(([, { bind }]) => bind.includes(address))?.[0] ?? "";
}

/**
 * Declares an input of a node, before another declared input or at the end.
 * @param {Doc} doc
 * @param {string} address such as `6.text`
 * @param {string} [before]
 * @returns {Doc}
 */
export function declare(doc, address, before) {
  const known = declaredAs(doc, address);
  if (known) return before && before !== known ? moveDeclared(doc, known, before) : doc;
  const title = doc.nodes[nodeOf(address)]?._meta?.title;
  const name = freeName(doc, portOf(address) === "text" && title ? title : portOf(address));
  const found = { ...doc, inputs: { ...doc.inputs, [name]: { bind: [address] } } };
  return before ? moveDeclared(found, name, before) : found;
}

/**
 * Takes a declared input, or output, out of the interface; the node keeps its value.
 * @param {Doc} doc
 * @param {"inputs" | "outputs"} side
 * @param {string} name
 * @returns {Doc}
 */
export function undeclare(doc, side, name) {
  const { [name]: _, ...rest } = /** @type {Record<string, any>} */ (doc[side] ?? {});
  const found = pruned({ ...doc, [side]: Object.keys(rest).length ? rest : undefined });
  return side === "inputs" ? withForm(found, (form) => forget(form, name)) : found;
}

/**
 * Changes how a declared input is told; a new name keeps its place.
 * @param {Doc} doc
 * @param {string} name
 * @param {Partial<InputDoc> & {name?: string}} changes
 * @returns {Doc}
 */
export function changeDeclared(doc, name, { name: next = name, ...changes }) {
  const { [name]: _, ...others } = doc.inputs ?? {};
  const free = next === name ? name : freeName({ ...doc, inputs: others }, next);
  const inputs = Object.fromEntries(Object.entries(doc.inputs ?? {}).map(([old, item]) => (
    old === name ? [free, pruned({ ...item, ...changes })] : [old, item]
  )));
  const swap = (/** @type {string} */ old) => (old === name ? free : old);
  return withForm({ ...doc, inputs }, (form) => pruned({
    ...form, order: form.order?.map(swap), groups: form.groups?.map((group) => ({ ...group, inputs: group.inputs.map(swap) })),
  }));
}

/**
 * Puts a declared input before another, into its section; without another, at the end of a section.
 * @param {Doc} doc
 * @param {string} name
 * @param {string} [before]
 * @param {string} [section] title of the section, where there is no other
 * @returns {Doc}
 */
export function moveDeclared(doc, name, before, section) {
  const rest = orderOf(doc).filter((one) => one !== name);
  const place = before === undefined ? rest.length : rest.indexOf(before);
  const order = [...rest.slice(0, place), name, ...rest.slice(place)];
  return withForm(doc, (form) => {
    const groups = (form.groups ?? []).map((group) => {
      const inputs = group.inputs.filter((one) => one !== name);
      const at = before === undefined ? -1 : inputs.indexOf(before);
      if (at >= 0) inputs.splice(at, 0, name);
      else if (before === undefined && group.title === section) inputs.push(name);
      return { ...group, inputs };
    });
    return { ...form, order, ...(form.groups && { groups }) };
  });
}

/**
 * Adds a section to the form, or renames one; an empty new title takes it away and leaves its fields.
 * @param {Doc} doc
 * @param {string} title
 * @param {string} [old]
 * @returns {Doc}
 */
export function nameSection(doc, title, old) {
  return withForm(doc, (form) => {
    const groups = form.groups ?? [];
    if (old === undefined) return { ...form, groups: [...groups, { title, inputs: [] }] };
    const found = title ? groups.map((group) => (group.title === old ? { ...group, title } : group)) : groups.filter((group) => group.title !== old);
    return pruned({ ...form, groups: found.length ? found : undefined });
  });
}

/**
 * Declares an output of a node.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string} id
 * @param {number} place
 * @returns {Doc}
 */
export function declareOutput(doc, specs, id, place) {
  const outputs = outputsOf(doc, specs, id);
  const address = `${id}.${slotOf(outputs, place)}`;
  if (Object.values(doc.outputs ?? {}).includes(address)) return doc;
  return { ...doc, outputs: { ...doc.outputs, [freeName(doc, outputs[place].name.toLowerCase(), "outputs")]: address } };
}

/**
 * The node and type of each declared output.
 * @param {Doc} doc
 * @param {Specs} specs
 * @returns {{name: string, node: string, port: string}[]}
 */
export function outputsDeclared(doc, specs) {
  return Object.entries(doc.outputs ?? {}).filter(([, at]) => doc.nodes[nodeOf(at)]).map(([name, at]) => {
    const outputs = outputsOf(doc, specs, nodeOf(at));
    return { name, node: nodeOf(at), port: outputs[placeOf(outputs, portOf(at))]?.port ?? "*" };
  });
}

/**
 * A name in words: `negative_prompt` is Negative prompt.
 * @param {string} name
 */
export function inWords(name) {
  const words = name.replace(/[_-]+/g, " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** @param {Doc} doc @param {string} wanted @param {"inputs" | "outputs"} [side] */
function freeName(doc, wanted, side = "inputs") {
  const base = wanted.trim().toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "_").replace(/^_+|_+$/g, "") || "value";
  const taken = doc[side] ?? {};
  for (let number = 1; ; number += 1) {
    const name = number === 1 ? base : `${base}_${number}`;
    if (!(name in taken)) return name;
  }
}

/** @param {Doc} doc @param {(form: FormDoc) => FormDoc} change @returns {Doc} */
function withForm(doc, change) {
  const form = change(doc.ui?.form ?? {});
  return Object.keys(form).length ? { ...doc, ui: { ...doc.ui, form } } : doc;
}

/** @param {FormDoc} form @param {string} name @returns {FormDoc} */
function forget(form, name) {
  const isOther = (/** @type {string} */ one) => one !== name;
  return pruned({ ...form, order: form.order?.filter(isOther), groups: form.groups?.map((group) => ({ ...group, inputs: group.inputs.filter(isOther) })) });
}
