/** Edits of wires that need to know what fits: heal, insert. Pure. */

import { connect, nodeOf, portOf, remove, setInput } from "./document.js";
import { REROUTE, accepts, fittingInputs, fittingOutputs, inputsOf, isLink, outputsOf, placeOf } from "./ports.js";

/** @import {Doc, Link, Specs} from "./types.js" */

/**
 * Takes out what is selected: nodes, notes, groups, and wires by where they end. Reroutes let what they passed on
 * through; `heals` lets every node do so that passes a type on.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {Iterable<string>} ids
 * @param {boolean} [heals]
 * @returns {Doc}
 */
export function removeChosen(doc, specs, ids, heals = false) {
  const chosen = [...ids];
  const nodes = new Set(chosen.filter((id) => id in doc.nodes));
  const cut = chosen.filter((id) => !nodes.has(id) && isWire(doc, id) && !nodes.has(nodeOf(id)))
    .reduce((found, id) => setInput(found, nodeOf(id), portOf(id), undefined), doc);
  const passing = [...nodes].filter((id) => heals || doc.nodes[id].class_type === REROUTE);
  return remove(passing.reduce((found, id) => healed(found, specs, id), cut), chosen);
}

/**
 * True when an address such as `6.samples` is the end of a wire.
 * @param {Doc} doc
 * @param {string} address
 */
export function isWire(doc, address) {
  return isLink(doc.nodes[nodeOf(address)]?.inputs[portOf(address)]);
}

/**
 * The document with a node let into a wire; null where it does not fit.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string} id of the node
 * @param {string} wire where it ends
 * @returns {Doc | null}
 */
export function inserted(doc, specs, id, wire) {
  const [target, input] = [nodeOf(wire), portOf(wire)];
  const link = doc.nodes[target]?.inputs[input];
  if (!isLink(link) || target === id || link[0] === id) return null;
  const free = fittingInputs(doc, specs, link, id).find((item) => !isLink(doc.nodes[id].inputs[item.name]));
  if (!free) return null;
  const begun = connect(doc, specs, link, id, free.name);
  const [place] = fittingOutputs(begun, specs, id, target, input);
  return place === undefined ? null : connect(begun, specs, [id, place], target, input);
}

/**
 * The document with what a node feeds fed by what the node passes on, as Skip would.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {string} id
 */
function healed(doc, specs, id) {
  return Object.entries(doc.nodes).reduce((found, [target, node]) => (
    Object.entries(node.inputs).reduce((changed, [input, value]) => {
      if (!isLink(value) || value[0] !== id) return changed;
      const passed = passedLink(doc, specs, value);
      return passed ? connect(changed, specs, passed, target, input) : changed;
    }, found)
  ), doc);
}

/**
 * What an output would pass on: the link of the input in its place when its type fits, else of the first that fits.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {Link} link
 * @returns {Link | undefined}
 */
function passedLink(doc, specs, [id, slot]) {
  const outputs = outputsOf(doc, specs, id);
  const place = placeOf(outputs, slot);
  const type = outputs[place]?.port ?? "*";
  const { inputs } = doc.nodes[id];
  const linked = inputsOf(doc, specs, id).filter((input) => isLink(inputs[input.name]) && accepts(input.port, type));
  const same = linked.find((input) => input === inputsOf(doc, specs, id)[place]);
  const found = same ?? linked[0];
  return found && inputs[found.name];
}
