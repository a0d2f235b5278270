/** Saving into the library, so that nobody's save is lost, and telling what other windows saved. */

import { apiGraph } from "../graph/api.js";
import { ApiError, call, workflowPath } from "../net/api.js";
import { stringify } from "../net/exact.js";
import { shortName } from "./library.js";

/** @import {App} from "./app.js" */

/** @type {Set<string>} tabs whose save is under way */
const saving = new Set();

/**
 * Saves the document of a tab under the name it has, or asks for one -> whether it is saved.
 * @param {App} app
 * @param {string} [id] of the tab
 */
export async function save(app, id = app.tab.id) {
  const state = stateOf(app, id);
  if (!state?.workflow) {
    app.show({ kind: "save", id });
    return false;
  }
  /** @type {Record<string, string>} */
  const match = state.base ? { "If-Match": state.base } : { "If-None-Match": "*" };
  return put(app, id, state.workflow, match);
}

/**
 * Saves the document of a tab under a name.
 * @param {App} app
 * @param {string} id of the tab
 * @param {string} workflow
 * @param {Record<string, string>} match what is believed to be there, as headers
 * @param {string} [doc] what the document says of itself from now on
 */
export async function put(app, id, workflow, match, doc) {
  const tab = app.tabs.get(id);
  const state = stateOf(app, id);
  if (!tab || !state || saving.has(id)) return false;
  tab.editor.adjust((old) => (old.name !== shortName(workflow) || doc !== undefined ? { ...old, name: shortName(workflow), ...(doc !== undefined && { doc }) } : old));
  const saved = tab.editor.doc;
  saving.add(id);
  try {
    const { etag } = await call("PUT", workflowPath(workflow), { json: saved, headers: match });
    app.changeTab(id, { workflow, name: shortName(workflow), base: etag, saved, theirs: undefined });
    app.toast(`Saved as "${workflow}".`);
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.status === 412) app.show({ kind: "conflict", id, workflow, isTaken: "If-None-Match" in match });
    else app.tellError(error, "Not saved");
    return false;
  } finally {
    saving.delete(id);
  }
}

/**
 * Saves over what is in the library now, which stays among its versions.
 * @param {App} app
 * @param {string} id of the tab
 * @param {string} workflow
 */
export async function overwrite(app, id, workflow) {
  const now = await call("GET", workflowPath(workflow)).catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
  return put(app, id, workflow, now ? { "If-Match": now.etag } : { "If-None-Match": "*" });
}

/**
 * Tells tabs when what they were opened from is saved elsewhere.
 * @param {App} app
 */
export function followFiles(app) {
  app.follow((event) => {
    if (event.type !== "WorkflowsChanged") return;
    for (const { id, workflow } of app.store.getState().tabs) if (workflow) look(app, id).catch(() => {});
  });
}

/** @param {App} app @param {string} id */
async function look(app, id) {
  const before = stateOf(app, id);
  if (!before?.workflow || !before.base || saving.has(id)) return;
  const headers = { "If-None-Match": before.base };
  const found = await call("GET", workflowPath(before.workflow), { headers }).catch((error) => (error.status === 304 ? null : Promise.reject(error)));
  const now = stateOf(app, id);
  if (found && now && now.base === before.base && !saving.has(id) && found.etag !== now.base) app.changeTab(id, { theirs: found.etag });
}

/**
 * Downloads the document of a tab: as it is, or as ComfyUI's API takes it.
 * @param {App} app
 * @param {"document" | "api"} format
 */
export function download(app, format) {
  const { doc } = app.tab.editor;
  const content = format === "api" ? apiGraph(doc, app.specs) : doc;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([stringify(content, 1)], { type: "application/json" }));
  link.download = `${app.tabState.name}${format === "api" ? "_api" : ""}.json`;
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** @param {App} app @param {string} id */
function stateOf(app, id) {
  return app.store.getState().tabs.find((tab) => tab.id === id);
}
