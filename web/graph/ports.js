/** What fits where: types of ports, links, and what a node has of them in a document. Pure. */

/** @import {Doc, InputSpec, Link, OutputSpec, Spec, Specs} from "./types.js" */

export const REROUTE = "Reroute";
const MOST_OUTPUTS = 256; // of a node whose type is not known

/**
 * What a new node has to fit: the type of an output that it takes (`from`), or of an input that it feeds (`to`).
 * @typedef {{side: "from" | "to", type: string}} Ask
 */

/**
 * True when an output of type `source` may feed an input of type `target`; the rule of `nodegraph.types.accepts`.
 * @param {string} source
 * @param {string} target
 */
export function accepts(source, target) {
  if (source === target || source === "*" || target === "*") return true;
  const sources = new Set(source.split(","));
  const targets = target.split(",");
  if (sources.has("INT")) sources.add("FLOAT");
  if (sources.has("COMBO") || sources.has("STRING")) sources.add("COMBO").add("STRING");
  return sources.has("*") || targets.some((type) => type === "*" || sources.has(type));
}

/**
 * True for a link as an input has it: `[id, output]`.
 * @param {any} value
 * @returns {value is Link}
 */
export function isLink(value) {
  return Array.isArray(value) && value.length === 2 && typeof value[0] === "string"
    && (typeof value[1] === "string" || Number.isInteger(value[1]));
}

/**
 * An input as written -> its value: a list is wrapped, since a bare one may be a link.
 * @param {any} written
 */
export function valueOf(written) {
  const isWrapped = written !== null && typeof written === "object" && !Array.isArray(written) && "__value__" in written;
  return isWrapped && Object.keys(written).length === 1 ? written.__value__ : written;
}

/**
 * A value as an input has it.
 * @param {any} value
 */
export function written(value) {
  return Array.isArray(value) ? { __value__: value } : value;
}

/**
 * The inputs of a node: those of its type, then what the document has besides; of an unknown type, its links.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string} id
 * @returns {InputSpec[]}
 */
export function inputsOf(doc, specs, id) {
  const node = doc.nodes[id];
  const spec = specs.nodes.get(node.class_type);
  if (spec) return spec.inputs;
  return Object.entries(node.inputs).map(([name, value]) => (
    isLink(value) ? { name, port: "*", link_only: true } : { name, port: "*", default: valueOf(value) }
  ));
}

/**
 * The outputs of a node; of an unknown type, those that the document's links name.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string} id
 * @returns {OutputSpec[]}
 */
export function outputsOf(doc, specs, id) {
  const node = doc.nodes[id];
  const spec = specs.nodes.get(node.class_type);
  if (node.class_type === REROUTE) return [{ name: spec?.outputs[0]?.name ?? "*", port: passedType(doc, specs, id) }];
  if (spec) return spec.outputs;
  const slots = [...slotsOf(doc.nodes).get(id) ?? []];
  const names = slots.filter((slot) => typeof slot === "string");
  const last = Math.min(MOST_OUTPUTS - 1, Math.max(-1, ...slots.filter((slot) => typeof slot === "number")));
  return Array.from({ length: Math.max(names.length, last + 1) }, (_, place) => (
    { name: String(names[place] ?? place), port: "*" }
  ));
}

/** @type {WeakMap<Doc["nodes"], Map<string, Set<string | number>>>} found once for each state of the nodes */
const linked = new WeakMap();

/** The outputs that links name, by node. @param {Doc["nodes"]} nodes */
function slotsOf(nodes) {
  const known = linked.get(nodes);
  if (known) return known;
  /** @type {Map<string, Set<string | number>>} */
  const found = new Map();
  for (const { inputs } of Object.values(nodes)) {
    for (const value of Object.values(inputs)) if (isLink(value)) found.set(value[0], (found.get(value[0]) ?? new Set()).add(value[1]));
  }
  linked.set(nodes, found);
  return found;
}

/**
 * The place of an output by its name or number; -1 where there is none.
 * @param {OutputSpec[]} outputs
 * @param {string | number} slot
 */
export function placeOf(outputs, slot) {
  if (typeof slot === "number") return slot < outputs.length ? slot : -1;
  const found = outputs.findIndex((output) => output.name === slot);
  return found < 0 && /^\d+$/.test(slot) && Number(slot) < outputs.length ? Number(slot) : found;
}

/**
 * An output as links name it: by its name, or by number where another one before it has that name too.
 * @param {OutputSpec[]} outputs
 * @param {number} place
 * @returns {string | number}
 */
export function slotOf(outputs, place) {
  const { name } = outputs[place];
  return name && outputs.findIndex((output) => output.name === name) === place ? name : place;
}

/**
 * The type of what a link brings; `*` where that is not known.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {Link} link
 * @returns {string}
 */
export function typeOfLink(doc, specs, [id, slot]) {
  if (!doc.nodes[id]) return "*";
  const outputs = outputsOf(doc, specs, id);
  return outputs[placeOf(outputs, slot)]?.port ?? "*";
}

/**
 * The type that a reroute passes on, through any number of them.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string} id
 */
function passedType(doc, specs, id) {
  const seen = new Set();
  let at = id;
  while (doc.nodes[at]?.class_type === REROUTE && !seen.has(at)) {
    seen.add(at);
    const link = Object.values(doc.nodes[at].inputs).find(isLink);
    if (!link) return "*";
    if (doc.nodes[link[0]]?.class_type !== REROUTE) return typeOfLink(doc, specs, link);
    at = link[0];
  }
  return "*";
}

/** What a node needs, and itself. @param {Doc} doc @param {string} id */
export function needs(doc, id) {
  return reached(id, (at) => Object.values(doc.nodes[at]?.inputs ?? {}).filter(isLink).map(([source]) => source));
}

/** What needs a node, and itself. @param {Doc} doc @param {string} id */
export function needed(doc, id) {
  /** @type {Map<string, string[]>} */
  const users = new Map();
  for (const [user, node] of Object.entries(doc.nodes)) {
    for (const value of Object.values(node.inputs)) {
      if (!isLink(value)) continue;
      if (users.has(value[0])) users.get(value[0])?.push(user);
      else users.set(value[0], [user]);
    }
  }
  return reached(id, (at) => users.get(at) ?? []);
}

/** @param {string} id @param {(id: string) => string[]} next */
function reached(id, next) {
  const found = new Set([id]);
  for (const at of found) for (const other of next(at)) found.add(other); // a set's walk meets what is added to it
  return found;
}

/**
 * Why a wire from an output to an input cannot be; "" when it can.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {Link} link
 * @param {string} id
 * @param {string} input
 */
export function misfit(doc, specs, link, id, input) {
  if (!doc.nodes[link[0]] || !doc.nodes[id]) return "There is no such node.";
  const wanted = inputsOf(doc, specs, id).find((item) => item.name === input)?.port ?? "*";
  const given = typeOfLink(doc, specs, link);
  if (!accepts(given, wanted)) return `${given} does not fit ${wanted}.`;
  if (needs(doc, link[0]).has(id)) return "This would make a circle.";
  return "";
}

/**
 * The inputs of a node that an output fits: free ones first, of exactly its type before any.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {Link} link
 * @param {string} id
 * @returns {InputSpec[]}
 */
export function fittingInputs(doc, specs, link, id) {
  const type = typeOfLink(doc, specs, link);
  const rank = (/** @type {InputSpec} */ item) => (isLink(doc.nodes[id].inputs[item.name]) ? 4 : 0)
    + (item.link_only ? 0 : 2) + (item.port === type ? 0 : 1);
  return inputsOf(doc, specs, id)
    .filter((item) => (item.link_only || type !== "*") && !misfit(doc, specs, link, id, item.name))
    .sort((one, other) => rank(one) - rank(other));
}

/**
 * The places of a node's outputs that fit an input, of exactly its type before any.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string} id
 * @param {string} target
 * @param {string} input
 * @returns {number[]}
 */
export function fittingOutputs(doc, specs, id, target, input) {
  const wanted = inputsOf(doc, specs, target).find((item) => item.name === input)?.port ?? "*";
  return outputsOf(doc, specs, id)
    .map((output, place) => ({ output, place }))
    .filter(({ place }) => !misfit(doc, specs, [id, place], target, input))
    .sort((one, other) => Number(one.output.port !== wanted) - Number(other.output.port !== wanted))
    .map(({ place }) => place);
}

/**
 * The input, or the place of the output, of a node type that fits best; null when none does.
 * @param {Spec} spec
 * @param {Ask} ask
 * @returns {string | number | null}
 */
export function firstFit(spec, { side, type }) {
  if (side === "from") {
    const fitting = spec.inputs.filter((input) => (input.link_only || type !== "*") && accepts(type, input.port));
    const rank = (/** @type {Spec["inputs"][0]} */ input) => (input.port === type ? 0 : 4) + (input.link_only ? 0 : 2) + (input.required ? 0 : 1);
    return fitting.sort((one, other) => rank(one) - rank(other))[0]?.name ?? null;
  }
  const exact = spec.outputs.findIndex((output) => output.port === type);
  const place = exact >= 0 ? exact : spec.outputs.findIndex((output) => accepts(output.port, type));
  return place < 0 ? null : place;
}

/**
 * What a node is called: its own title, that of its type, or its type's name.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string} id
 */
export function titleOf(doc, specs, id) {
  const node = doc.nodes[id];
  return node._meta?.title ?? specs.nodes.get(node.class_type)?.title ?? node.class_type;
}
