/** The commands that place nodes, and the one that takes them out of their wires. */

import { move } from "../graph/document.js";
import { removeChosen } from "../graph/wiring.js";

/** @import {App} from "../state/app.js" */
/** @import {Places} from "../graph/layout.js" */
/** @import {Doc} from "../graph/types.js" */

/** @type {import("../commands.js").Command[]} */
export const PLACING_COMMANDS = [
  { id: "delete-healed", title: "Delete, and join the wires", keys: ["Ctrl+Delete", "Ctrl+Backspace"], where: "canvas", section: "Edit", run: deleteHealed },
  { id: "layout", title: "Lay out what is selected, or all", keys: ["l"], where: "canvas", section: "Nodes", run: (app) => void layOut(app).catch((error) => app.tellError(error)) },
  { id: "align-left", title: "Align left", keys: ["Alt+ArrowLeft"], where: "canvas", section: "Nodes", run: (app) => place(app, "Align left", ({ aligned }, doc, ids) => aligned(doc, ids, "left")) },
  { id: "align-top", title: "Align tops", keys: ["Alt+ArrowUp"], where: "canvas", section: "Nodes", run: (app) => place(app, "Align tops", ({ aligned }, doc, ids) => aligned(doc, ids, "top")) },
  { id: "distribute", title: "Distribute evenly", keys: ["Alt+ArrowDown"], where: "canvas", section: "Nodes", run: (app) => place(app, "Distribute", ({ distributed }, doc, ids) => distributed(doc, app.specs, ids)) },
];

/** @param {App} app */
function deleteHealed(app) {
  const { editor } = app.tab;
  editor.edit("Delete and join", (doc) => removeChosen(doc, app.specs, editor.store.getState().selection, true));
}

/** @param {App} app */
async function layOut(app) {
  const { editor } = app.tab;
  const { doc } = editor;
  const ids = editor.chosen.length > 1 ? editor.chosen : Object.keys(doc.nodes);
  const { laidOut } = await import("../graph/layout.js");
  const found = await laidOut(doc, app.specs, ids);
  editor.edit("Lay out", (now) => (now.nodes === doc.nodes && ids.length ? { ...now, ui: { ...found.ui, viewport: now.ui?.viewport } } : now));
}

/** @param {App} app @param {string} label @param {(layout: typeof import("../graph/layout.js"), doc: Doc, ids: string[]) => Places} placesOf */
async function place(app, label, placesOf) {
  const { tab } = app;
  const ids = tab.editor.chosen;
  if (ids.length < 2) return app.announce("Select two nodes or more first.");
  const layout = await import("../graph/layout.js");
  tab.editor.edit(label, (doc) => move(doc, placesOf(layout, doc, ids)));
}
