/** The palette: adds a node; at the end of a wire, one that fits it, or a port of the graph that does. */

import { html, useCallback } from "../vendor/flow.js";
import { askOf, fittingEnds, freePlace, withNew, withNewGroup, withNewNote } from "../graph/adding.js";
import { connect } from "../graph/document.js";
import { WIDTH, shapeOf } from "../graph/geometry.js";
import { REROUTE, titleOf } from "../graph/ports.js";
import { firstLine, ranked, searchNodes, takesAndGives, typeName } from "../graph/search.js";
import { useApp } from "../state/use.js";
import { focusNode } from "./focus.js";
import { Picker } from "./Picker.js";

/** @import {Ends} from "../graph/adding.js" */
/** @import {Spec} from "../graph/types.js" */
/** @import {App} from "../state/app.js" */
/** @import {Choice} from "./Picker.js" */

const RECENT = "nodegraph.recent";
const MOST_RECENT = 8;
const GAP = 80;
/** Categories in the order in which a picture is made; others come after these, odd ones last. */
const CATEGORIES = ["loaders", "conditioning", "sampling", "latent", "image", "mask", "utils", "logic", "workflows", "model_patches"];
const ODD = /^(_|advanced|api)/;

/**
 * The palette of nodes.
 * @param {Ends & {at?: {x: number, y: number} | null, anchor?: {x: number, y: number} | null, isKeyboard?: boolean, onClose: () => void}} props
 *   `at` is where the node comes to be, `anchor` where only the palette does, in pixels of the page; `isKeyboard`: the
 *   ports of the graph that fit are offered too
 */
export function Palette({ at = null, anchor = at, from = null, to = null, isKeyboard = false, onClose }) {
  const app = useApp();
  const choices = useCallback((/** @type {string} */ query) => [
    ...(isKeyboard ? endChoices(app, { from, to }, query) : []),
    ...nodeChoices(app, { from, to }, query, at, isKeyboard),
  ], [app, at, from, to, isKeyboard]);
  const ask = askOf(app.tab.editor.doc, app.specs, { from, to });
  const words = ask ? `Nodes that ${ask.side === "from" ? "take" : "give"} ${typeName(ask.type)}` : "Search nodes";
  return html`<${Picker} label=${ask ? words : "Add a node"} placeholder=${words} nothing="No node fits." choices=${choices} at=${anchor} About=${AboutNode} onClose=${onClose} />`;
}

/** What a node type does. @param {{about: Spec}} props */
export function AboutNode({ about }) {
  const rows = [["takes", about.inputs.filter((input) => input.link_only)], ["gives", about.outputs]];
  return html`<h3>${about.title}</h3>
    <p class="quiet">${about.category.replaceAll("/", " / ")}</p>
    <p class="about-doc">${about.doc}</p>
    ${rows.map(([word, ports]) => ports.length > 0 && html`<dl key=${word}><dt>${word}</dt>
      ${/** @type {any[]} */ (ports).map((port, place) => html`<dd key=${place}><b>${port.name === "*" ? "any" : port.name}</b> ${port.doc ?? (port.name.toUpperCase() === port.port ? "" : typeName(port.port))}</dd>`)}</dl>`)}`;
}

/**
 * @param {App} app
 * @param {Ends} ends
 * @param {string} query
 * @returns {Choice[]}
 */
function endChoices(app, ends, query) {
  const { editor } = app.tab;
  const all = fittingEnds(editor.doc, app.specs, ends);
  const found = query.trim() ? ranked(query, all, [(end) => end.label]) : all;
  return found.map(({ link, node, input, label, type, hint }) => ({
    id: `end ${link.join()} ${node} ${input}`, label, type, group: "In this graph", hint,
    about: app.specs.nodes.get(editor.doc.nodes[ends.from ? node : link[0]].class_type),
    pick() {
      editor.edit("Connect", (doc) => connect(doc, app.specs, link, node, input));
      app.announce(`Connected to ${label}.`);
    },
  }));
}

/**
 * @param {App} app
 * @param {Ends} ends
 * @param {string} query
 * @param {{x: number, y: number} | null} at
 * @param {boolean} isKeyboard
 * @returns {Choice[]}
 */
function nodeChoices(app, ends, query, at, isKeyboard) {
  const ask = askOf(app.tab.editor.doc, app.specs, ends);
  const recent = recentTypes();
  const found = searchNodes(app.specs, query, recent, ask);
  const choice = (/** @type {Spec} */ spec, /** @type {string} */ group) => ({
    id: `${group} ${spec.name}`, label: spec.title, hint: takesAndGives(spec), type: spec.outputs[0]?.port ?? spec.inputs[0]?.port ?? "*", group, about: spec,
    pick: () => addChosen(app, spec, ends, at),
  });
  if (query.trim()) return [...found.map((spec) => choice(spec, isKeyboard ? "New node" : "")), ...(ask ? [] : ranked(query, canvasChoices(app, at), [(one) => one.label]))];
  const rest = (/** @type {Spec} */ { name }) => !recent.includes(name) && name !== REROUTE;
  const first = recent.flatMap((name) => found.find((spec) => spec.name === name) ?? []).filter(({ name }) => name !== REROUTE).map((spec) => choice(spec, "Recent"));
  const reroute = found.filter(({ name }) => name === REROUTE).map((spec) => choice(spec, "Canvas"));
  if (ask) return [...first, ...found.filter(rest).map((spec) => choice(spec, isKeyboard ? "New node" : first.length ? "All" : "")), ...reroute];
  const byCategory = found.filter(rest).sort((one, other) => turnOf(one.category) - turnOf(other.category) || one.category.localeCompare(other.category));
  return [...first, ...reroute, ...canvasChoices(app, at), ...byCategory.map((spec) => choice(spec, spec.category.replaceAll("/", " / ").replaceAll("_", " ").trim()))];
}

/**
 * @param {App} app
 * @param {{x: number, y: number} | null} at
 * @returns {Choice[]}
 */
function canvasChoices(app, at) {
  const { editor, view } = app.tab;
  const place = () => (at ? view.toFlow(at.x, at.y) : view.middle());
  const added = (/** @type {string} */ what, /** @type {typeof withNewNote} */ make, /** @type {string} */ part) => {
    const [doc, id] = make(editor.doc, place());
    editor.edit(`Add ${what}`, () => doc);
    editor.select([id]);
    focusNode(id, part);
    app.announce(`Added a ${what}.`);
  };
  return [
    { id: "note", label: "Note", hint: "text beside the nodes", group: "Canvas", pick: () => added("note", withNewNote, "textarea") },
    { id: "group", label: "Group", hint: "a frame that moves what is in it", group: "Canvas", pick: () => added("group", withNewGroup, "") },
  ];
}

/**
 * Adds the node that was chosen: with its port at the place, or in the middle where nothing is.
 * @param {App} app
 * @param {Spec} spec
 * @param {Ends} ends
 * @param {{x: number, y: number} | null} at
 */
function addChosen(app, spec, ends, at) {
  const { editor, view } = app.tab;
  const [doc, id] = withNew(editor.doc, app.specs, spec.name, at ? view.toFlow(at.x, at.y) : { x: 0, y: 0 }, ends);
  const size = shapeOf(doc, app.specs, id);
  const free = at ? null : freePlace(editor.doc, app.specs, startOf(app, ends, size), size);
  editor.edit(`Add ${spec.title}`, () => (free ? { ...doc, ui: { ...doc.ui, positions: { ...doc.ui?.positions, [id]: [Math.round(free.x), Math.round(free.y)] } } } : doc));
  editor.select([id]);
  remember(spec.name);
  focusNode(id);
  const end = ends.from?.node ?? ends.to?.node;
  app.announce(`Added ${spec.title}${end ? `, connected to ${titleOf(doc, app.specs, end)}` : ""}. ${firstLine(spec.doc)}`);
}

/**
 * Where a place for a new node is looked for: beside the node it is wired to, else in the middle of what is seen.
 * @param {App} app
 * @param {Ends} ends
 * @param {{width: number, height: number}} size
 */
function startOf({ tab: { editor, view }, specs }, { from, to }, size) {
  const other = from?.node ?? to?.node;
  if (!other) {
    const middle = view.middle();
    return { x: middle.x - size.width / 2, y: middle.y - size.height / 2 };
  }
  const [x, y] = editor.doc.ui?.positions?.[other] ?? [0, 0];
  return { x: from ? x + (shapeOf(editor.doc, specs, other).width || WIDTH) + GAP : x - GAP - size.width, y };
}

/** @param {string} category */
function turnOf(category) {
  const place = CATEGORIES.indexOf(category.split("/")[0]);
  return place >= 0 ? place : CATEGORIES.length + Number(ODD.test(category));
}

/** @returns {string[]} */
function recentTypes() {
  try {
    const found = JSON.parse(localStorage.getItem(RECENT) ?? "[]");
    return Array.isArray(found) ? found.filter((name) => typeof name === "string") : [];
  } catch {
    return []; // somebody else wrote it
  }
}

/** @param {string} name */
function remember(name) {
  localStorage.setItem(RECENT, JSON.stringify([name, ...recentTypes().filter((one) => one !== name)].slice(0, MOST_RECENT)));
}
