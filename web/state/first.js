/** What is open when the page is: what was open last, or on the first visit a workflow that runs. */

import { EMPTY } from "../graph/document.js";
import { Drafts } from "./drafts.js";
import { STARTERS, openWorkflow } from "./library.js";
import { restore } from "./windows.js";

/** @import {App} from "./app.js" */

/**
 * Opens the tabs that were open, and the workflow that the address names: `/?workflow=NAME` or `/#NAME`.
 * @param {App} app
 */
export async function openFirst(app) {
  app.drafts = new Drafts(app);
  const isRestored = await restore(app);
  const wanted = new URLSearchParams(location.search).get("workflow") ?? new URLSearchParams(`name=${location.hash.slice(1)}`).get("name");
  if (wanted) history.replaceState(null, "", location.pathname);
  if (wanted) await openWorkflow(app, wanted).catch((error) => app.tellError(error, `"${wanted}" cannot be opened`));
  else if (!isRestored) await openWorkflow(app, STARTERS[0]).catch(() => {});
  if (!app.store.getState().tabs.length) app.openTab(EMPTY);
  import("./saving.js").then(({ followFiles }) => followFiles(app), () => {});
}

/**
 * Opens the form of a workflow, alone.
 * @param {App} app
 * @param {string} name
 */
export async function openForm(app, name) {
  const id = await openWorkflow(app, name);
  app.changeTab(id, { shows: "form" });
}
