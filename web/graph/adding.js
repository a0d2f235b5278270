/** New nodes, notes, groups and reroutes: with values to begin with, wired, at a free place. Pure. */

import { addNode, changeNode, connect, freshId, pruned, setInput, withGroup, withNote } from "./document.js";
import { GRID, REROUTE_SIZE, shapeOf } from "./geometry.js";
import { REROUTE, accepts, firstFit, inputsOf, isLink, needed, needs, outputsOf, slotOf, titleOf, typeOfLink } from "./ports.js";

/** @import {Ask} from "./ports.js" */
/** @import {Doc, Link, Spec, Specs} from "./types.js" */

/**
 * What a new node is wired to: an output (`from`), or an input (`to`).
 * @typedef {{from?: {node: string, place: number} | null, to?: {node: string, input: string} | null}} Ends
 */

/**
 * What has to fit a wire's open end; null where there is no wire.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {Ends} ends
 * @returns {Ask | null}
 */
export function askOf(doc, specs, { from, to }) {
  if (from) return { side: "from", type: typeOfLink(doc, specs, [from.node, from.place]) };
  if (to) return { side: "to", type: inputsOf(doc, specs, to.node).find((input) => input.name === to.input)?.port ?? "*" };
  return null;
}

/**
 * Adds a node of a type with values for what needs one; wired, with the wired port at the place, where there is a wire.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string} type
 * @param {{x: number, y: number}} place
 * @param {Ends} [ends]
 * @returns {[Doc, string]}
 */
export function withNew(doc, specs, type, { x, y }, ends = {}) {
  const spec = specs.nodes.get(type);
  const [added, id] = addNode(doc, type, [Math.round(x), Math.round(y)], { inputs: spec ? valuesFor(spec, specs.files) : {} });
  const ask = askOf(doc, specs, ends);
  const fit = ask && spec ? firstFit(spec, ask) : null;
  if (fit === null) return [added, id];
  const port = shapeOf(added, specs, id).ports.find((one) => one.id === (ends.from ? `in:${fit}` : `out:${fit}`));
  const at = /** @type {[number, number]} */ ([Math.round(x - (port?.x ?? 0)), Math.round(y - (port?.y ?? 0))]);
  const placed = { ...added, ui: { ...added.ui, positions: { ...added.ui?.positions, [id]: at } } };
  if (ends.from) return [connect(placed, specs, [ends.from.node, ends.from.place], id, String(fit)), id];
  return [ends.to ? connect(placed, specs, [id, Number(fit)], ends.to.node, ends.to.input) : placed, id];
}

/**
 * Values for the inputs of a new node that need one and have no default.
 * @param {Spec} spec
 * @param {Record<string, string[]>} files by kind
 * @returns {Record<string, any>}
 */
export function valuesFor(spec, files) {
  return pruned(Object.fromEntries(spec.inputs
    .filter((input) => input.required && !input.link_only && input.default === undefined)
    .map((input) => [input.name, firstValue(input, files)])));
}

/**
 * A place near another where a node covers no other: down from there.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {{x: number, y: number}} place
 * @param {{width: number, height: number}} size
 */
export function freePlace(doc, specs, { x, y }, { width, height }) {
  const boxes = Object.keys(doc.nodes).map((id) => {
    const [left, top] = doc.ui?.positions?.[id] ?? [0, 0];
    const shape = shapeOf(doc, specs, id);
    return { left, top, right: left + shape.width, bottom: top + shape.height };
  });
  let free = y;
  for (let met = true; met;) {
    const hit = boxes.find((box) => x < box.right && x + width > box.left && free < box.bottom && free + height > box.top);
    met = hit !== undefined;
    if (hit) free = hit.bottom + 2 * GRID;
  }
  return { x, y: free };
}

/**
 * Adds an empty note -> the document and its id.
 * @param {Doc} doc
 * @param {{x: number, y: number}} place
 * @returns {[Doc, string]}
 */
export function withNewNote(doc, { x, y }) {
  const id = freshId(doc);
  return [withNote(doc, id, { title: "Note", text: "", position: [Math.round(x), Math.round(y)], size: [240, 140] }), id];
}

/**
 * Adds an empty group -> the document and its id.
 * @param {Doc} doc
 * @param {{x: number, y: number}} place
 * @returns {[Doc, string]}
 */
export function withNewGroup(doc, { x, y }) {
  const id = freshGroupId(doc);
  return [withGroup(doc, { id, title: "Group", bounding: [Math.round(x), Math.round(y), 400, 300] }), id];
}

/**
 * An id that no group has.
 * @param {Doc} doc
 */
export function freshGroupId(doc) {
  const taken = (doc.ui?.groups ?? []).map(({ id }) => Number(id.replace("group", ""))).filter(Number.isInteger);
  return `group${Math.max(0, ...taken) + 1}`;
}

/**
 * Puts a reroute on the wire of an input -> the document and its id.
 * @param {Doc} doc
 * @param {string} id
 * @param {string} input
 * @param {{x: number, y: number}} place of its middle
 * @returns {[Doc, string]}
 */
export function withReroute(doc, id, input, { x, y }) {
  const half = REROUTE_SIZE / 2;
  const [added, fresh] = addNode(doc, REROUTE, [Math.round(x - half), Math.round(y - half)], { inputs: { value: doc.nodes[id].inputs[input] } });
  return [setInput(added, id, input, [fresh, 0]), fresh];
}

/**
 * A node with the values of a new one; its wires stay.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string} id
 */
export function withDefaults(doc, specs, id) {
  const spec = specs.nodes.get(doc.nodes[id].class_type);
  const links = Object.fromEntries(Object.entries(doc.nodes[id].inputs).filter(([, value]) => isLink(value)));
  return spec ? changeNode(doc, id, { inputs: { ...valuesFor(spec, {}), ...filesOf(doc, spec, id), ...links } }) : doc;
}

/**
 * @typedef {object} End a port of the document that a wire may go to
 * @property {Link} link
 * @property {string} node that the wire ends at
 * @property {string} input
 * @property {string} label such as `KSampler · positive`
 * @property {string} type
 * @property {string} hint
 * @property {boolean} isTaken another wire is there
 */

/**
 * The ports of a document that fit the open end of a wire: free ones first, of its own type before others.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {Ends} ends
 * @returns {End[]}
 */
export function fittingEnds(doc, specs, { from, to }) {
  const ask = askOf(doc, specs, { from, to });
  /** @type {End[]} */
  const ends = [];
  const around = from ? needs(doc, from.node) : to ? needed(doc, to.node) : new Set(); // a wire there would make a circle
  const wanted = to ? inputsOf(doc, specs, to.node).find((item) => item.name === to.input)?.port ?? "*" : "*";
  for (const other of Object.keys(doc.nodes)) {
    if (around.has(other)) continue;
    const title = titleOf(doc, specs, other);
    if (from) {
      for (const input of inputsOf(doc, specs, other)) {
        const link = /** @type {Link} */ ([from.node, from.place]);
        if ((!input.link_only && ask?.type === "*") || !accepts(ask?.type ?? "*", input.port)) continue;
        ends.push({ link, node: other, input: input.name, label: `${title} · ${input.name}`, type: input.port, ...taken(doc, other, input.name) });
      }
    } else if (to) {
      outputsOf(doc, specs, other).forEach((output, place, all) => {
        const link = /** @type {Link} */ ([other, slotOf(all, place)]);
        if (!accepts(output.port, wanted)) return;
        ends.push({ link, node: to.node, input: to.input, label: `${title} · ${output.name || output.port}`, type: output.port, hint: `#${other}`, isTaken: false });
      });
    }
  }
  return ends.sort((one, other) => rank(one) - rank(other));

  /** @param {End} end */
  function rank({ type, isTaken }) {
    return (type === ask?.type ? 0 : 2) + Number(isTaken);
  }
}

/** @param {Doc} doc @param {string} id @param {string} input */
function taken(doc, id, input) {
  const isTaken = isLink(doc.nodes[id].inputs[input]);
  return { isTaken, hint: `${isTaken ? "replaces its wire, " : ""}#${id}` };
}

/** @param {Spec["inputs"][0]} input @param {Record<string, string[]>} files */
function firstValue(input, files) {
  if (input.choices) return input.choices[0];
  if (input.file) return files[input.file]?.[0];
  if (input.port === "STRING") return "";
  if (input.port === "BOOLEAN") return false;
  if (input.port === "INT" || input.port === "FLOAT") return Math.min(Number(input.max ?? Infinity), Math.max(Number(input.min ?? -Infinity), 0));
  return undefined;
}

/** @param {Doc} doc @param {Spec} spec @param {string} id */
function filesOf(doc, spec, id) {
  const { inputs } = doc.nodes[id];
  return pruned(Object.fromEntries(spec.inputs.filter((input) => input.file).map((input) => [input.name, inputs[input.name]])));
}
