/** The menus of tabs and of workflows in the library. */

import { deleteWorkflow, insertAsNode, openWorkflow } from "../state/library.js";
import { download, save } from "../state/saving.js";
import { closeTab, newTab } from "../state/tabs.js";
import { pickFiles } from "../state/opening.js";

/** @import {App, TabState} from "../state/app.js" */
/** @import {WorkflowEntry} from "../state/library.js" */

/**
 * Shows what can be done with a tab.
 * @param {App} app
 * @param {TabState} state
 * @param {HTMLElement} beside
 * @param {() => void} onName
 */
export function tabMenu(app, { id, workflow }, beside, onName) {
  app.store.setState({ active: id });
  const others = app.store.getState().tabs.filter((tab) => tab.id !== id);
  show(app, "Tab", beside, [
    { label: "Save", keys: "Ctrl+S", run: () => void save(app, id) },
    { label: "Save as…", keys: "Ctrl+Shift+S", run: () => app.show({ kind: "save", id }) },
    ...(workflow ? [{ label: "Versions…", run: () => app.show({ kind: "versions", name: workflow }) }] : []),
    { label: "Rename", keys: "F2", run: onName },
    { label: "Download", run: () => download(app, "document") },
    { label: "Download for ComfyUI's API", run: () => download(app, "api") },
    { label: "Open file…", keys: "Ctrl+O", run: () => pickFiles(app) },
    { label: "New tab", keys: "Alt+T", run: () => newTab(app) },
    { label: "Close", keys: "Alt+W", run: () => closeTab(app, id) },
    ...(others.length ? [{ label: "Close the others", run: () => others.forEach((tab) => closeTab(app, tab.id)) }] : []),
  ]);
}

/**
 * Shows what can be done with a workflow of the library.
 * @param {App} app
 * @param {WorkflowEntry} entry
 * @param {HTMLElement} beside
 */
export function workflowMenu(app, { name, is_own }, beside) {
  const tell = (/** @type {Promise<any>} */ done) => void done.catch((error) => app.tellError(error, `"${name}"`));
  show(app, name, beside, [
    { label: "Open", run: () => tell(openWorkflow(app, name)) },
    { label: "Open as a copy", run: () => tell(openWorkflow(app, name, true)) },
    { label: "Insert as a node", run: () => tell(insertAsNode(app, name)) },
    { label: "Open its form", run: () => void window.open(`/form/${encodeURIComponent(name)}`) },
    ...(is_own ? [
      { label: "Versions…", run: () => app.show({ kind: "versions", name }) },
      { label: "Rename…", run: () => app.show({ kind: "rename", name }) },
      { label: "Delete", isDanger: true, run: () => tell(deleteWorkflow(app, name)) },
    ] : []),
  ]);
}

/**
 * @param {App} app
 * @param {string} label
 * @param {HTMLElement} beside
 * @param {{label: string, keys?: string, isDanger?: boolean, run: () => void}[]} items
 */
function show(app, label, beside, items) {
  const { left, bottom } = beside.getBoundingClientRect();
  app.show({ kind: "menu", label, at: { x: left, y: bottom + 2 }, items: items.map((item) => ({ id: item.label, ...item })) });
}
