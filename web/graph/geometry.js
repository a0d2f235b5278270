/** Where things are on the canvas, in pixels, known without drawing them. The style sheet draws by the same measures. */

import { REROUTE, inputsOf, isLink, outputsOf, valueOf } from "./ports.js";

/** @import {Doc, InputSpec, OutputSpec, Specs} from "./types.js" */

export const GRID = 20;
export const WIDTH = 252;
const HEADER = 34;
const PORT_ROW = 24;
const FIELD_ROW = 34;
const PADDING = 6;
const LINE = 18;
export const REROUTE_SIZE = 32;
const TEXT_LINES = { least: 3, most: 8, characters: 34, rest: 26 };
const PICTURE = 168;

/**
 * @typedef {object} PortPlace
 * @property {string} id `in:NAME` or `out:PLACE`
 * @property {"target" | "source"} type
 * @property {string} name
 * @property {string} port
 * @property {number} x of its middle
 * @property {number} y of its middle
 *
 * @typedef {object} Shape what a node looks like
 * @property {number} width
 * @property {number} height
 * @property {InputSpec[]} sockets inputs that only take a link
 * @property {{input: InputSpec, height: number}[]} fields inputs that take a value
 * @property {OutputSpec[]} outputs
 * @property {PortPlace[]} ports
 */

/**
 * The shape of a node: its rows, its size and where its ports are.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string} id
 * @returns {Shape}
 */
export function shapeOf(doc, specs, id) {
  const inputs = inputsOf(doc, specs, id);
  const outputs = outputsOf(doc, specs, id);
  const width = Math.max(180, doc.ui?.sizes?.[id]?.[0] ?? WIDTH);
  const sockets = inputs.filter((input) => input.link_only);
  const fields = inputs.filter((input) => !input.link_only)
    .map((input) => ({ input, height: fieldHeight(input, doc.nodes[id].inputs[input.name], width) }));
  if (doc.nodes[id].class_type === REROUTE) return dot(sockets, outputs);
  if (doc.ui?.collapsed?.[id]) return bar(width, inputs, sockets, fields, outputs);
  /** @type {PortPlace[]} */
  const ports = [];
  const first = HEADER + PADDING;
  const rowAt = (/** @type {number} */ row) => first + row * PORT_ROW + PORT_ROW / 2;
  sockets.forEach((input, row) => ports.push(target(input, 0, rowAt(row))));
  outputs.forEach((output, row) => ports.push(source(output, row, width, rowAt(row))));
  let y = first + Math.max(sockets.length, outputs.length) * PORT_ROW;
  for (const { input, height } of fields) {
    ports.push(target(input, 0, y + (input.multiline ? FIELD_ROW / 2 : height / 2)));
    y += height;
  }
  return { width, height: y + PADDING, sockets, fields, outputs, ports };
}

/**
 * The height of the row of a field.
 * @param {InputSpec} input
 * @param {any} given
 * @param {number} width of the node
 */
function fieldHeight(input, given, width) {
  if (input.image_upload && !isLink(given)) return FIELD_ROW + PICTURE;
  if (!input.multiline || isLink(given)) return FIELD_ROW;
  return textLines(String(valueOf(given) ?? input.default ?? ""), width) * LINE + TEXT_LINES.rest;
}

/**
 * How many lines a prompt is given: as many as it fills, from three to eight.
 * @param {string} text
 * @param {number} width of the node
 */
function textLines(text, width) {
  const characters = Math.max(12, Math.round((width / WIDTH) * TEXT_LINES.characters));
  const lines = text.split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / characters)), 0);
  return Math.min(TEXT_LINES.most, Math.max(TEXT_LINES.least, lines));
}

/**
 * The rectangle around nodes; null when there are none.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {Iterable<string>} ids
 * @returns {{x: number, y: number, width: number, height: number} | null}
 */
export function boundsOf(doc, specs, ids) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const id of ids) {
    const [x, y] = doc.ui?.positions?.[id] ?? [0, 0];
    const { width, height } = shapeOf(doc, specs, id);
    [left, top] = [Math.min(left, x), Math.min(top, y)];
    [right, bottom] = [Math.max(right, x + width), Math.max(bottom, y + height)];
  }
  return left === Infinity ? null : { x: left, y: top, width: right - left, height: bottom - top };
}

/**
 * A collapsed node: all its ports at the middle of its header's sides.
 * @param {number} width
 * @param {InputSpec[]} inputs
 * @param {InputSpec[]} sockets
 * @param {Shape["fields"]} fields
 * @param {OutputSpec[]} outputs
 * @returns {Shape}
 */
function bar(width, inputs, sockets, fields, outputs) {
  const ports = [
    ...inputs.map((input) => target(input, 0, HEADER / 2)),
    ...outputs.map((output, place) => source(output, place, width, HEADER / 2)),
  ];
  return { width, height: HEADER, sockets, fields, outputs, ports };
}

/**
 * A reroute: a dot.
 * @param {InputSpec[]} sockets
 * @param {OutputSpec[]} outputs
 * @returns {Shape}
 */
function dot(sockets, outputs) {
  const middle = REROUTE_SIZE / 2;
  const ports = [
    ...sockets.map((input) => target(input, 0, middle)),
    ...outputs.map((output, place) => source(output, place, REROUTE_SIZE, middle)),
  ];
  return { width: REROUTE_SIZE, height: REROUTE_SIZE, sockets, fields: [], outputs, ports };
}

/** @param {InputSpec} input @param {number} x @param {number} y @returns {PortPlace} */
function target(input, x, y) {
  return { id: `in:${input.name}`, type: "target", name: input.name, port: input.port, x, y };
}

/** @param {OutputSpec} output @param {number} place @param {number} x @param {number} y @returns {PortPlace} */
function source(output, place, x, y) {
  return { id: `out:${place}`, type: "source", name: output.name, port: output.port, x, y };
}
