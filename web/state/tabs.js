/** What is done with tabs: new, closed and opened again, renamed, moved. */

import { EMPTY } from "../graph/document.js";
import { hasChanges, isEmpty } from "./draft.js";
import { rename } from "./library.js";

/** @import {App} from "./app.js" */

/**
 * Opens an empty tab.
 * @param {App} app
 */
export function newTab(app) {
  app.openTab(EMPTY);
}

/**
 * Closes a tab. What is not saved stays among the drafts.
 * @param {App} app
 * @param {string} id
 */
export function closeTab(app, id) {
  const state = app.store.getState().tabs.find((tab) => tab.id === id);
  const tab = app.tabs.get(id);
  if (!state || !tab) return;
  app.closeTab(id);
  if (isEmpty(tab.editor.doc)) return app.announce(`${state.name} is closed.`);
  const text = hasChanges(state, tab.editor.doc) ? `"${state.name}" is closed; it stays among the drafts of the library.` : `"${state.name}" is closed.`;
  app.toast(text, "note", { label: "Reopen", run: () => void app.drafts.reopen(id) });
}

/**
 * Opens the tab that was closed last.
 * @param {App} app
 */
export function reopenTab(app) {
  if (!app.drafts.reopen()) app.announce("No tab was closed.");
}

/**
 * Names a tab, and the workflow of the library that it has.
 * @param {App} app
 * @param {string} id
 * @param {string} name
 */
export async function renameTab(app, id, name) {
  const state = app.store.getState().tabs.find((tab) => tab.id === id);
  const wanted = name.trim();
  if (!state || !wanted || wanted === state.name) return;
  if (!state.workflow) return app.changeTab(id, { name: wanted });
  const folder = state.workflow.slice(0, state.workflow.lastIndexOf("/") + 1);
  await rename(app, state.workflow, folder + wanted).catch((error) => app.tellError(error, "Not renamed"));
}

/**
 * Moves a tab to the place of another.
 * @param {App} app
 * @param {string} id
 * @param {number} place
 */
export function moveTab(app, id, place) {
  const { tabs } = app.store.getState();
  const moved = tabs.find((tab) => tab.id === id);
  const rest = tabs.filter((tab) => tab.id !== id);
  if (moved && place >= 0 && place < tabs.length && tabs[place] !== moved) app.store.setState({ tabs: rest.toSpliced(place, 0, moved) });
}

/**
 * Brings the tab beside the one in front to the front.
 * @param {App} app
 * @param {1 | -1} step
 */
export function turnTab(app, step) {
  const { tabs, active } = app.store.getState();
  const place = tabs.findIndex((tab) => tab.id === active);
  app.store.setState({ active: tabs[(place + step + tabs.length) % tabs.length].id });
}
