/** Everything that a key does: one table, which also makes the sheet of keys and the list of commands. */

import { changeNode, freshId, remove, withGroup, withUi } from "./graph/document.js";
import { boundsOf } from "./graph/geometry.js";
import { run, stop } from "./state/running.js";

/** @import {App} from "./state/app.js" */
/** @import {NodeDoc} from "./graph/types.js" */

/**
 * @typedef {object} Command
 * @property {string} id
 * @property {string} title as the list of commands and the sheet of keys have it
 * @property {string[]} keys such as `Ctrl+Enter`; Ctrl is also ⌘
 * @property {"canvas" | "anywhere"} where `canvas`: not while typing in a field or in a panel
 * @property {(app: App) => void} run
 */

/** @type {Command[]} */
export const COMMANDS = [
  { id: "add", title: "Add a node", keys: ["Tab", "Space", "a", "Shift+A"], where: "canvas", run: (app) => app.show({ kind: "palette" }) },
  { id: "run", title: "Run", keys: ["Ctrl+Enter"], where: "anywhere", run: (app) => void run(app, app.tab) },
  { id: "stop", title: "Stop", keys: ["Ctrl+."], where: "anywhere", run: (app) => void stop(app, app.tab) },
  { id: "undo", title: "Undo", keys: ["Ctrl+z"], where: "canvas", run: (app) => say(app, "Undone", app.tab.editor.undo()) },
  { id: "redo", title: "Redo", keys: ["Ctrl+Shift+Z", "Ctrl+y"], where: "canvas", run: (app) => say(app, "Redone", app.tab.editor.redo()) },
  { id: "select-all", title: "Select all", keys: ["Ctrl+a"], where: "canvas", run: (app) => app.tab.editor.select(Object.keys(app.tab.editor.doc.nodes)) },
  { id: "delete", title: "Delete what is selected", keys: [], where: "canvas", run: (app) => app.tab.editor.edit("Delete", (doc) => remove(doc, app.tab.editor.store.getState().selection)) },
  { id: "fit", title: "Show what is selected, or all", keys: ["f", "."], where: "canvas", run: (app) => app.tab.view.fit(app.tab.editor.chosen.length ? app.tab.editor.chosen : undefined) },
  { id: "zoom-1", title: "Zoom to 100 %", keys: ["1"], where: "canvas", run: (app) => app.tab.view.zoomTo(1) },
  { id: "skip", title: "Skip", keys: ["b", "Ctrl+b"], where: "canvas", run: (app) => toggleMode(app, "skip") },
  { id: "mute", title: "Mute", keys: ["m", "Ctrl+m"], where: "canvas", run: (app) => toggleMode(app, "mute") },
  { id: "collapse", title: "Collapse", keys: ["h", "Alt+c"], where: "canvas", run: toggleCollapsed },
  { id: "group", title: "Group what is selected", keys: ["Ctrl+g"], where: "canvas", run: group },
  { id: "help", title: "Keys", keys: ["?"], where: "canvas", run: (app) => app.show({ kind: "keys" }) },
];

/** @param {App} app @param {string} what @param {string} label */
function say(app, what, label) {
  app.announce(label ? `${what}: ${label}` : `Nothing to be ${what.toLowerCase()}.`);
}

/** @param {App} app @param {NonNullable<NodeDoc["mode"]>} mode */
function toggleMode(app, mode) {
  const { editor } = app.tab;
  const ids = editor.chosen;
  const isOn = ids.every((id) => editor.doc.nodes[id].mode === mode);
  editor.edit(isOn ? `Un${mode}` : mode, (doc) => ids.reduce((found, id) => changeNode(found, id, { mode: isOn ? undefined : mode }), doc));
}

/** @param {App} app */
function toggleCollapsed(app) {
  const { editor } = app.tab;
  const ids = editor.chosen;
  const isOn = ids.every((id) => editor.doc.ui?.collapsed?.[id]);
  editor.edit(isOn ? "Expand" : "Collapse", (doc) => ids.reduce((found, id) => withUi(found, "collapsed", id, isOn ? undefined : true), doc));
}

/** @param {App} app */
function group(app) {
  const { editor } = app.tab;
  const box = boundsOf(editor.doc, app.specs, editor.chosen);
  if (!box) return app.announce("Select the nodes of the group first.");
  const bounding = /** @type {[number, number, number, number]} */ ([box.x - 20, box.y - 50, box.width + 40, box.height + 70]);
  editor.edit("Group", (doc) => withGroup(doc, { id: `group${freshId(doc)}${(doc.ui?.groups ?? []).length}`, title: "Group", bounding }));
}
