/** Run, and what belongs to it: seeds drawn before, checks as one edits, stop. */

import { ApiError, get, post } from "../net/api.js";
import { setValue, nodeOf, portOf } from "../graph/document.js";
import { isLink } from "../graph/ports.js";

/** @import {App, Tab} from "./app.js" */
/** @import {Doc, SeedMode} from "../graph/types.js" */

const CHECK_MS = 250;
const LARGEST_SEED = 2 ** 53; // of those that a browser counts exactly

/**
 * Submits the document of a tab -> the id of its run, or null when it was refused.
 * @param {App} app
 * @param {Tab} tab
 * @param {{targets?: string[], priority?: number, doc?: (doc: Doc) => Doc}} [how] `doc` changes what is sent, not what is shown
 * @returns {Promise<string | null>}
 */
export async function run(app, tab, { targets, priority, doc = (same) => same } = {}) {
  tab.editor.adjust(withNewSeeds);
  const { name } = app.store.getState().tabs.find(({ id }) => id === tab.id) ?? { name: "" };
  const workflow = doc(tab.editor.doc);
  try {
    const { id } = await post("/v1/runs", { workflow: { ...workflow, name: workflow.name || name }, targets, priority, client: tab.client });
    app.runs.expect(id, tab.client);
    app.announce("The run is in the queue.");
    return id;
  } catch (error) {
    if (!(error instanceof ApiError) || error.kind !== "workflow") {
      app.tellError(error, "Not run");
      return null;
    }
    app.changeTab(tab.id, { problems: error.problems, isChecked: true });
    app.store.setState({ right: "problems" });
    app.announce(`Not run: ${error.message}`);
    return null;
  }
}

/**
 * Cancels the run of a tab that is under way, else the one of anybody that runs.
 * @param {App} app
 * @param {Tab} tab
 */
export async function stop(app, tab) {
  const { active } = app.runs.queue.getState();
  const mine = active.find((one) => one.client === tab.client && one.status === "running") ?? active.find((one) => one.client === tab.client);
  if (!mine) return app.announce("Nothing of this tab runs.");
  await post(`${mine.url}/cancel`).catch((error) => app.tellError(error, "Not stopped"));
}

/**
 * Asks the planner what is wrong with the document of a tab, after each edit.
 * @param {App} app
 * @param {Tab} tab
 * @returns {() => void} ends it
 */
export function keepChecked(app, tab) {
  let timer = 0;
  let number = 0;
  const check = async () => {
    const mine = (number += 1);
    const { problems } = await post("/v1/check", { workflow: tab.editor.doc });
    if (mine === number) app.changeTab(tab.id, { problems, isChecked: true });
  };
  const soon = () => {
    clearTimeout(timer);
    timer = window.setTimeout(() => check().catch(() => {}), CHECK_MS);
  };
  soon();
  const end = tab.editor.store.subscribe((now, before) => {
    if (now.doc.nodes === before.doc.nodes && now.doc.inputs === before.doc.inputs && now.doc.outputs === before.doc.outputs) return;
    app.changeTab(tab.id, { isChecked: false });
    soon();
  });
  return () => {
    clearTimeout(timer);
    end();
  };
}

/**
 * The document with the seeds of its next run, as each seed's mode says.
 * @param {Doc} doc
 * @returns {Doc}
 */
export function withNewSeeds(doc) {
  return Object.entries(doc.ui?.seeds ?? {}).reduce((found, [address, mode]) => {
    const [id, input] = [nodeOf(address), portOf(address)];
    const old = found.nodes[id]?.inputs[input];
    return mode === "fixed" || !found.nodes[id] || isLink(old) ? found : setValue(found, id, input, nextSeed(Number(old ?? 0), mode));
  }, doc);
}

/** @param {number} seed @param {SeedMode} mode */
function nextSeed(seed, mode) {
  if (mode === "random") return Math.floor(Math.random() * LARGEST_SEED);
  return Math.max(0, seed + (mode === "increment" ? 1 : -1));
}

/**
 * Reads the workflow that a run had.
 * @param {string} run
 * @returns {Promise<Doc>}
 */
export async function workflowOf(run) {
  return get(`/v1/runs/${encodeURIComponent(run)}/workflow`);
}
