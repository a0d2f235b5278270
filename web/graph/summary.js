/** What a picture was made with: the values of its workflow that people ask for. Pure. */

import { isLink, titleOf, valueOf } from "./ports.js";

/** @import {Doc, Specs} from "./types.js" */

/** @typedef {{node: string, title: string, input: string, value: any}} MadeWith */

const ASKED_FOR = ["ckpt_name", "unet_name", "lora_name", "seed", "noise_seed", "steps", "cfg", "sampler_name", "scheduler", "denoise", "width", "height"];

/**
 * The prompts and the other values that a node's result was made with; of all sinks when the node is not there.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string} sink
 * @returns {{prompts: MadeWith[], values: MadeWith[]}}
 */
export function madeWith(doc, specs, sink) {
  /** @type {MadeWith[]} */
  const prompts = [];
  /** @type {MadeWith[]} */
  const values = [];
  for (const id of upstream(doc, sink)) {
    const { class_type: type, inputs } = doc.nodes[id];
    for (const [input, written] of Object.entries(inputs)) {
      const value = valueOf(written);
      if (isLink(written) || value === "") continue;
      const found = { node: id, title: titleOf(doc, specs, id), input, value };
      if (specs.nodes.get(type)?.inputs.some(({ name, multiline }) => name === input && multiline)) prompts.push(found);
      else if (ASKED_FOR.includes(input)) values.push(found);
    }
  }
  return { prompts, values: values.sort((one, other) => ASKED_FOR.indexOf(one.input) - ASKED_FOR.indexOf(other.input)) };
}

/** A node and all that it needs, itself first. @param {Doc} doc @param {string} sink */
function upstream(doc, sink) {
  if (!doc.nodes[sink]) return Object.keys(doc.nodes);
  const found = new Set([sink]);
  for (const id of found) {
    for (const value of Object.values(doc.nodes[id].inputs)) if (isLink(value) && doc.nodes[value[0]]) found.add(value[0]);
  }
  return [...found];
}
