/** What is in the context menus. */

import { COMMANDS } from "../commands.js";
import { withDefaults, withNewNote, withReroute } from "../graph/adding.js";
import { nodeOf, portOf, setInput, withGroup, withUi } from "../graph/document.js";
import { runTo } from "../state/running.js";
import { keyName } from "./Commands.js";
import { focusNode } from "./focus.js";

/** @import {App} from "../state/app.js" */

/**
 * @typedef {{kind: "node" | "wire" | "pane" | "group" | "note", id: string}} Target what a menu is of
 *
 * @typedef {object} Item
 * @property {string} id
 * @property {string} label
 * @property {string} [keys]
 * @property {boolean} [isDanger]
 * @property {() => void} run
 * @property {{color?: string, name: string, isOn: boolean, run: () => void}[]} [colors]
 */

/** The colours that nodes and groups may be given; they are saved in documents. */
const COLORS = { red: "#e5687a", orange: "#e59a55", yellow: "#d3b94b", green: "#5fb878", teal: "#4cb5ae", blue: "#6a94e8", violet: "#a481e6" };

/**
 * The items of a menu; null is a line between them.
 * @param {App} app
 * @param {Target} target
 * @param {{x: number, y: number}} at
 * @returns {(Item | null)[]}
 */
export function itemsOf(app, target, at) {
  if (target.kind === "node") return nodeItems(app, target.id);
  if (target.kind === "wire") return wireItems(app, target.id, at);
  if (target.kind === "pane") return paneItems(app, at);
  return [...some(app, "rename", "duplicate", "copy", "cut"), ...(target.kind === "group" ? [null, groupColors(app, target.id)] : []), null, ...some(app, "delete")];
}

/** @param {App} app @param {string} id */
function nodeItems(app, id) {
  const { editor } = app.tab;
  const { doc } = editor;
  const { mode, class_type: type } = doc.nodes[id];
  const spec = app.specs.nodes.get(type);
  const ids = editor.chosen;
  const reset = () => editor.edit("Reset to defaults", (now) => ids.reduce((found, one) => withDefaults(found, app.specs, one), now));
  const paint = (/** @type {string | undefined} */ color) => editor.edit("Colour", (now) => ids.reduce((found, one) => withUi(found, "colors", one, color), now));
  return [
    item("run-to", "Run to here", () => void runTo(app, app.tab, id), keysOf("run-to")),
    null,
    ...some(app, "rename", "duplicate", "copy", "cut"),
    null,
    ...some(app, "skip").map((one) => ({ ...one, label: mode === "skip" ? "Do not skip" : "Skip" })),
    ...some(app, "mute").map((one) => ({ ...one, label: mode === "mute" ? "Do not mute" : "Mute" })),
    ...some(app, "collapse").map((one) => ({ ...one, label: doc.ui?.collapsed?.[id] ? "Expand" : "Collapse" })),
    ...some(app, "group"),
    colorItem(doc.ui?.colors?.[id], paint),
    null,
    ...(spec ? [item("reset", "Reset to defaults", reset), item("about", "Help", () => app.show({ kind: "about", type }))] : []),
    ...some(app, "delete"),
  ];
}

/** @param {App} app @param {string} wire @param {{x: number, y: number}} at */
function wireItems(app, wire, at) {
  const { editor, view } = app.tab;
  const bend = () => {
    const [doc, id] = withReroute(editor.doc, nodeOf(wire), portOf(wire), view.toFlow(at.x, at.y));
    editor.edit("Add a reroute", () => doc);
    editor.select([id]);
    focusNode(id);
  };
  const cut = () => editor.edit("Cut a wire", (doc) => setInput(doc, nodeOf(wire), portOf(wire), undefined));
  return [item("reroute", "Add a reroute", bend), item("cut-wire", "Delete", cut, "Delete", true)];
}

/** @param {App} app @param {{x: number, y: number}} at */
function paneItems(app, at) {
  const { editor, view } = app.tab;
  const note = () => {
    const [doc, id] = withNewNote(editor.doc, view.toFlow(at.x, at.y));
    editor.edit("Add a note", () => doc);
    editor.select([id]);
    focusNode(id, "textarea");
  };
  return [
    item("add", "Add a node", () => app.show({ kind: "palette", at }), "Tab"),
    item("note", "Add a note", note),
    ...some(app, "paste"),
    null,
    ...some(app, "select-all", "fit", "layout"),
  ];
}

/** @param {App} app @param {string} id */
function groupColors(app, id) {
  const { editor } = app.tab;
  const group = editor.doc.ui?.groups?.find((one) => one.id === id);
  return colorItem(group?.color, (color) => editor.edit("Colour", (doc) => (group ? withGroup(doc, { ...group, color }) : doc)));
}

/** @param {string | undefined} now @param {(color: string | undefined) => void} paint @returns {Item} */
function colorItem(now, paint) {
  const colors = [...Object.entries(COLORS), ["none", undefined]].map(([name, color]) => (
    { name: String(name), color, isOn: color === now, run: () => paint(color) }
  ));
  return { id: "color", label: "Colour", run() {}, colors };
}

/**
 * Commands of the table, those of them that there are.
 * @param {App} app
 * @param {string[]} ids
 * @returns {Item[]}
 */
function some(app, ...ids) {
  return ids.flatMap((id) => {
    const command = COMMANDS.find((one) => one.id === id);
    return command ? [item(id, command.title.replace(/ what is selected$/, "").replace("Show what is selected, or all", "Fit"), () => command.run(app), keysOf(id), id === "delete")] : [];
  });
}

/** @param {string} id @param {string} label @param {() => void} run @param {string} [keys] @param {boolean} [isDanger] @returns {Item} */
const item = (id, label, run, keys, isDanger) => ({ id, label, run, keys, isDanger });

/** @param {string} id */
function keysOf(id) {
  const key = COMMANDS.find((one) => one.id === id)?.keys[0];
  return key && keyName(key);
}
