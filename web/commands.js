/** Everything that a key does: one table, which also makes the sheet of keys and the list of commands. */

import { PLACING_COMMANDS } from "./canvas/commands.js";
import { changeNode, withGroup, withUi } from "./graph/document.js";
import { freshGroupId } from "./graph/adding.js";
import { boundsOf } from "./graph/geometry.js";
import { removeChosen } from "./graph/wiring.js";
import { askToCopy, askToPaste, duplicate, spot } from "./state/clipboard.js";
import { DOCUMENT_COMMANDS } from "./state/documentCommands.js";
import { isOnChange, run, runNext, runTo, setOnChange, stop } from "./state/running.js";

/** @import {App} from "./state/app.js" */
/** @import {NodeDoc} from "./graph/types.js" */

/**
 * @typedef {object} Command
 * @property {string} id
 * @property {string} title as the list of commands and the sheet of keys have it
 * @property {string[]} keys such as `Ctrl+Enter`; Ctrl is also ⌘
 * @property {"canvas" | "anywhere" | "event"} where `canvas`: not while typing in a field or in a panel; `event`: the browser
 *   hears the keys
 * @property {(app: App) => unknown} run
 * @property {string} [section] of the sheet of keys
 */

/** The sections of the sheet of keys, in their order. */
export const SECTIONS = ["Add", "Run", "Select", "Edit", "Nodes", "View", "Workflow", "Keyboard", "More"];

/** @type {Command[]} */
export const COMMANDS = [
  { id: "add", title: "Add a node", keys: ["Tab", "Space", "a", "Shift+A"], where: "canvas", section: "Add", run: (app) => app.show({ kind: "palette", at: spot(app) }) },
  { id: "find", title: "Find in the graph", keys: ["Ctrl+f"], where: "anywhere", section: "View", run: find },
  { id: "commands", title: "Commands", keys: ["Ctrl+k", "Ctrl+Shift+P"], where: "anywhere", section: "View", run: (app) => app.show({ kind: "commands" }) },
  { id: "run", title: "Run", keys: ["Ctrl+Enter"], where: "anywhere", section: "Run", run: (app) => void run(app, app.tab) },
  { id: "stop", title: "Stop", keys: ["Ctrl+."], where: "anywhere", section: "Run", run: (app) => void stop(app, app.tab) },
  { id: "run-to", title: "Run up to what is selected", keys: ["Ctrl+Shift+Enter"], where: "canvas", section: "Run", run: runToChosen },
  { id: "run-next", title: "Run before all that waits", keys: [], where: "canvas", section: "Run", run: (app) => void runNext(app, app.tab) },
  { id: "on-change", title: "Run on change, or no more", keys: [], where: "canvas", section: "Run", run: (app) => setOnChange(app, app.tab, !isOnChange(app, app.tab)) },
  { id: "undo", title: "Undo", keys: ["Ctrl+z"], where: "canvas", section: "Edit", run: (app) => say(app, "Undone", app.tab.editor.undo()) },
  { id: "redo", title: "Redo", keys: ["Ctrl+Shift+Z", "Ctrl+y"], where: "canvas", section: "Edit", run: (app) => say(app, "Redone", app.tab.editor.redo()) },
  { id: "copy", title: "Copy", keys: ["Ctrl+C"], where: "event", section: "Edit", run: () => askToCopy("copy") },
  { id: "cut", title: "Cut", keys: ["Ctrl+X"], where: "event", section: "Edit", run: () => askToCopy("cut") },
  { id: "paste", title: "Paste", keys: ["Ctrl+V"], where: "event", section: "Edit", run: (app) => void askToPaste(app) },
  { id: "paste-linked", title: "Paste with the wires that came in", keys: ["Ctrl+Shift+V"], where: "event", section: "Edit", run: (app) => void askToPaste(app, true) },
  { id: "duplicate", title: "Duplicate", keys: ["Ctrl+d"], where: "canvas", section: "Edit", run: duplicate },
  { id: "delete", title: "Delete what is selected", keys: ["Delete", "Backspace"], where: "canvas", section: "Edit", run: deleteChosen },
  { id: "select-all", title: "Select all", keys: ["Ctrl+a"], where: "canvas", section: "Select", run: (app) => app.tab.editor.select(everything(app)) },
  { id: "fit", title: "Show what is selected, or all", keys: ["f", "."], where: "canvas", section: "View", run: (app) => app.tab.view.fit(app.tab.editor.chosen.length ? app.tab.editor.chosen : undefined) },
  { id: "zoom-1", title: "Zoom to 100 %", keys: ["1"], where: "canvas", section: "View", run: (app) => app.tab.view.zoomTo(1) },
  { id: "skip", title: "Skip", keys: ["b", "Ctrl+b"], where: "canvas", section: "Nodes", run: (app) => toggleMode(app, "skip") },
  { id: "mute", title: "Mute", keys: ["m", "Ctrl+m"], where: "canvas", section: "Nodes", run: (app) => toggleMode(app, "mute") },
  { id: "collapse", title: "Collapse", keys: ["h", "Alt+c"], where: "canvas", section: "Nodes", run: toggleCollapsed },
  { id: "rename", title: "Rename", keys: ["F2"], where: "canvas", section: "Nodes", run: renameChosen },
  { id: "group", title: "Group what is selected", keys: ["Ctrl+g"], where: "canvas", section: "Nodes", run: group },
  { id: "gallery", title: "Gallery of pictures", keys: ["g"], where: "canvas", section: "View", run: (app) => app.store.setState(({ right }) => ({ right: right === "gallery" ? "" : "gallery" })) },
  { id: "form", title: "Form, or graph", keys: ["Ctrl+Shift+F"], where: "anywhere", section: "View", run: (app) => app.changeTab(app.tab.id, { shows: app.tabState.shows === "form" ? "graph" : "form" }) },
  { id: "help", title: "Keys", keys: ["?"], where: "canvas", section: "View", run: (app) => app.show({ kind: "keys" }) },
  ...PLACING_COMMANDS,
  ...DOCUMENT_COMMANDS,
];

/** @param {App} app @param {string} what @param {string} label */
function say(app, what, label) {
  app.announce(label ? `${what}: ${label}` : `Nothing to be ${what.toLowerCase()}.`);
}

/** @param {App} app @param {NonNullable<NodeDoc["mode"]>} mode */
function toggleMode(app, mode) {
  const { editor } = app.tab;
  const ids = editor.chosen;
  if (!ids.length) return app.announce(`Select the nodes to ${mode} first.`);
  const isOn = ids.every((id) => editor.doc.nodes[id].mode === mode);
  editor.edit(isOn ? `Un${mode}` : mode, (doc) => ids.reduce((found, id) => changeNode(found, id, { mode: isOn ? undefined : mode }), doc));
}

/** @param {App} app */
function toggleCollapsed(app) {
  const { editor } = app.tab;
  const ids = editor.chosen;
  if (!ids.length) return app.announce("Select the nodes to collapse first.");
  const isOn = ids.every((id) => editor.doc.ui?.collapsed?.[id]);
  editor.edit(isOn ? "Expand" : "Collapse", (doc) => ids.reduce((found, id) => withUi(found, "collapsed", id, isOn ? undefined : true), doc));
}

/** @param {App} app */
function group(app) {
  const { editor } = app.tab;
  const box = boundsOf(editor.doc, app.specs, editor.chosen);
  if (!box) return app.announce("Select the nodes of the group first.");
  const bounding = /** @type {[number, number, number, number]} */ ([box.x - 20, box.y - 50, box.width + 40, box.height + 70]);
  editor.edit("Group", (doc) => withGroup(doc, { id: freshGroupId(doc), title: "Group", bounding }));
}

/**
 * Looks for something in the graph, which comes to the front.
 * @param {App} app
 */
export function find(app) {
  app.changeTab(app.tab.id, { shows: "graph" });
  app.show({ kind: "find" });
}

/** @param {App} app */
function deleteChosen(app) {
  const { editor } = app.tab;
  editor.edit("Delete", (doc) => removeChosen(doc, app.specs, editor.store.getState().selection));
}

/** @param {App} app */
function runToChosen(app) {
  const [id] = app.tab.editor.chosen;
  if (id === undefined) return app.announce("Select the node to run up to first.");
  return void runTo(app, app.tab, id);
}

/** Opens the title of what is selected, as a double click on it does. @param {App} app */
function renameChosen(app) {
  const [id] = app.tab.editor.store.getState().selection;
  document.querySelector(`[data-title="${CSS.escape(id ?? "")}"]`)?.dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
}

/** @param {App} app */
function everything({ tab: { editor: { doc } } }) {
  return [...Object.keys(doc.nodes), ...Object.keys(doc.ui?.notes ?? {}), ...(doc.ui?.groups ?? []).map(({ id }) => id)];
}
