/** A document as ComfyUI's API takes it: links by number; skipped and muted nodes and reroutes resolved. Pure. */

import { REROUTE, inputsOf, isLink, outputsOf, placeOf } from "./ports.js";

/** @import {Doc, Link, Specs} from "./types.js" */

/**
 * The graph of a document in ComfyUI's API format.
 * @param {Doc} doc
 * @param {Specs} specs
 */
export function apiGraph(doc, specs) {
  const kept = Object.entries(doc.nodes).filter(([, node]) => !node.mode && node.class_type !== REROUTE);
  return Object.fromEntries(kept.map(([id, { class_type, inputs, _meta }]) => {
    const written = Object.entries(inputs).map(([name, value]) => [name, isLink(value) ? ended(doc, specs, value) : value]);
    return [id, { class_type, inputs: Object.fromEntries(written.filter(([, value]) => value !== undefined)), ...(_meta && { _meta }) }];
  }));
}

/**
 * What a link brings in the end; undefined for nothing.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {Link} link
 */
function ended(doc, specs, link) {
  /** @type {any} */
  let at = link;
  const seen = new Set();
  while (isLink(at) && doc.nodes[at[0]]) {
    const [id, slot] = at;
    const node = doc.nodes[id];
    const outputs = outputsOf(doc, specs, id);
    const place = placeOf(outputs, slot);
    if (node.mode === "mute" || seen.has(id)) return undefined;
    if (!node.mode && node.class_type !== REROUTE) return [id, place < 0 ? slot : place];
    seen.add(id);
    at = node.class_type === REROUTE ? node.inputs.value : passed(doc, specs, id, place, outputs[place]?.port);
  }
  return at;
}

/**
 * What a skipped node passes on for an output, by ComfyUI's rule: of inputs with its type the one at its place, else the first.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string} id
 * @param {number} place
 * @param {string} type
 */
function passed(doc, specs, id, place, type) {
  const inputs = inputsOf(doc, specs, id).toSorted((one, other) => Number(!one.link_only) - Number(!other.link_only));
  const turns = [inputs[place], ...inputs].filter(Boolean);
  const input = type === "*" ? turns[0] : turns.find(({ port }) => port === type) ?? turns.find(({ port }) => port === "*");
  return input && (doc.nodes[id].inputs[input.name] ?? input.default);
}
