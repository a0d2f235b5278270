/** The library: workflows opened from it, renamed, deleted, and what was saved before. */

import { sameWork } from "../graph/changes.js";
import { addNode, settled } from "../graph/document.js";
import { arrange } from "../graph/places.js";
import { call, get, post, workflowPath } from "../net/api.js";
import { isEmpty } from "./draft.js";

/** @import {App, Tab, TabState} from "./app.js" */
/** @import {Doc} from "../graph/types.js" */

/** The workflows to begin with. */
export const STARTERS = ["text_to_image", "image_to_image", "two_pass"];

/**
 * @typedef {object} WorkflowEntry as `/v1/workflows` has it
 * @property {string} name
 * @property {boolean} is_own
 * @property {string} modified
 * @property {string} [title]
 * @property {string} [doc]
 * @property {number | null} [nodes]
 * @property {string | null} [picture]
 *
 * @typedef {{id: string, saved: string, bytes: number, nodes: number, etag: string}} VersionEntry
 */

/**
 * A workflow as it is in the library, as a document of ours.
 * @param {string} name
 * @returns {Promise<{doc: Doc, etag: string}>}
 */
export async function readWorkflow(name) {
  const { etag } = await call("GET", workflowPath(name)); // first: what is saved between the two is noticed on saving
  const { document: doc } = await post("/v1/open", { workflow: name });
  return { doc, etag };
}

/**
 * Opens a workflow of the library, or brings the tab that has it to the front -> the tab's id.
 * @param {App} app
 * @param {string} name
 * @param {boolean} [isCopy] as a document of its own
 */
export async function openWorkflow(app, name, isCopy = false) {
  const open = app.store.getState().tabs.find((tab) => tab.workflow === name);
  if (open && !isCopy) {
    app.store.setState({ active: open.id });
    return open.id;
  }
  const { doc, etag } = await readWorkflow(name);
  return openIn(app, doc, isCopy ? { name: `${shortName(name)} (copy)` } : { name: shortName(name), workflow: name, base: etag });
}

/**
 * Opens a document in a tab of its own; an empty tab that nobody used goes -> the tab's id.
 * @param {App} app
 * @param {Doc} doc
 * @param {Partial<TabState>} state
 */
export function openIn(app, doc, state) {
  const { tab: front, tabState } = app;
  const { id } = app.openTab(doc, state);
  if (front && !tabState.workflow && isEmpty(front.editor.doc) && !front.editor.store.getState().past.length) app.closeTab(front.id);
  return id;
}

/**
 * The last part of a name with folders.
 * @param {string} name
 */
export function shortName(name) {
  return name.slice(name.lastIndexOf("/") + 1);
}

/**
 * Puts what is in the library in place of a tab's document, as one step that undo takes back.
 * @param {App} app
 * @param {string} id of the tab
 */
export async function reload(app, id) {
  const tab = app.tabs.get(id);
  const state = app.store.getState().tabs.find((one) => one.id === id);
  if (!tab || !state?.workflow) return;
  const { doc, etag } = await readWorkflow(state.workflow);
  tab.editor.edit("Reload", () => settled(doc, app.specs, arrange(app.specs)));
  app.changeTab(id, { base: etag, saved: tab.editor.doc, theirs: undefined });
}

/**
 * Gives a workflow another name; tabs that have it follow. One that ships stays, and gets an own copy of that name.
 * @param {App} app
 * @param {string} name
 * @param {string} to
 */
export async function rename(app, name, to) {
  const { workflows } = await get("/v1/workflows");
  const isOwn = workflows.some((/** @type {WorkflowEntry} */ entry) => entry.name === name && entry.is_own);
  const { body, etag } = await call("GET", workflowPath(name));
  const named = (/** @type {any} */ doc) => ("nodegraph" in doc ? { ...doc, name: shortName(to) } : doc);
  const made = await call("PUT", workflowPath(to), { json: named(body), headers: { "If-None-Match": "*" } });
  for (const state of app.store.getState().tabs.filter((tab) => tab.workflow === name)) {
    const { editor } = /** @type {Tab} */ (app.tabs.get(state.id));
    const isSaved = sameWork(state.saved, editor.doc);
    editor.adjust(named);
    app.changeTab(state.id, { workflow: to, name: shortName(to), base: made.body.etag, ...(isSaved && { saved: editor.doc }) });
  }
  if (isOwn) await call("DELETE", workflowPath(name), { headers: { "If-Match": etag } });
  app.announce(`Renamed to ${to}.`);
}

/**
 * Deletes an own workflow; the toast brings it back.
 * @param {App} app
 * @param {string} name
 */
export async function deleteWorkflow(app, name) {
  const { body, etag } = await call("GET", workflowPath(name));
  await call("DELETE", workflowPath(name), { headers: { "If-Match": etag } });
  const undo = () => void call("PUT", workflowPath(name), { json: body, headers: { "If-None-Match": "*" } })
    .catch((error) => app.tellError(error, `"${name}" is not back`));
  app.toast(`"${name}" is deleted.`, "note", { label: "Undo", run: undo });
}

/**
 * What a workflow was before each of its saves, the newest first.
 * @param {string} name
 * @returns {Promise<VersionEntry[]>}
 */
export async function versionsOf(name) {
  return (await get(workflowPath(name, "/versions"))).versions;
}

/**
 * A workflow as it once was.
 * @param {string} name
 * @param {string} id
 * @returns {Promise<Doc>}
 */
export function readVersion(name, id) {
  return get(workflowPath(name, `/versions/${encodeURIComponent(id)}`));
}

/**
 * Adds a workflow to the graph in front, as one node.
 * @param {App} app
 * @param {string} name
 */
export async function insertAsNode(app, name) {
  const type = `workflow:${name}`;
  if (!app.specs.nodes.has(type)) await app.loadSpecs();
  const { editor, view } = app.tab;
  const { x, y } = view.middle();
  /** @type {string[]} */
  const added = [];
  editor.edit(`Add ${name}`, (doc) => {
    const [found, id] = addNode(doc, type, [Math.round(x), Math.round(y)]);
    added.push(id);
    return found;
  });
  editor.select(added);
}
