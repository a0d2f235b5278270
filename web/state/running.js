/** Run, and what belongs to it: seeds drawn before, checks as one edits, runs to a node or after each change, stop. */

import { ApiError, post } from "../net/api.js";
import { targetsChanged } from "../graph/affected.js";
import { setValue, nodeOf, portOf } from "../graph/document.js";
import { inputsOf, isLink, outputsOf, valueOf } from "../graph/ports.js";
import { isSeed, moved, nextSeed } from "../widgets/numbers.js";
import { goToFirst } from "./problems.js";
import { LOOK } from "./shown.js";

/** @import {App, Tab} from "./app.js" */
/** @import {Doc, Problem, Specs} from "../graph/types.js" */

const CHECK_MS = 250;
const REST_MS = 350; // after a check, until what was changed is run by itself
const HIGHEST = 1000; // priority of a run

/**
 * @typedef {object} How
 * @property {string[]} [targets] ids of the nodes wanted; by default all that save something
 * @property {number} [priority]
 * @property {boolean} [keepsSeeds] true to run with the seeds as they are
 * @property {(doc: Doc) => Doc} [doc] changes what is sent, not what is shown
 */

/**
 * Submits the document of a tab -> the id of its run, or null when it was refused.
 * @param {App} app
 * @param {Tab} tab
 * @param {How} [how]
 * @returns {Promise<string | null>}
 */
export async function run(app, tab, { targets, priority, keepsSeeds = false, doc = (same) => same } = {}) {
  if (!app.store.getState().isOnline) {
    app.toast("Not run: the connection to the server is lost. It is tried again by itself.", "error");
    return null;
  }
  if (!keepsSeeds) tab.editor.edit("New seeds", (now) => withNewSeeds(now, app.specs), "seeds");
  const { name } = app.store.getState().tabs.find(({ id }) => id === tab.id) ?? { name: "" };
  const shown = tab.editor.doc;
  const workflow = doc(shown);
  try {
    if (!targets && await isRefused(app, tab, workflow)) return null;
    const { id } = await post("/v1/runs", { workflow: { ...workflow, name: workflow.name || name }, targets, priority, client: tab.client });
    app.runs.expect(id, tab.client);
    if (isOnChange(app, tab)) app.runs.follow(tab.client, shown);
    app.announce("The run is in the queue.");
    return id;
  } catch (error) {
    if (!(error instanceof ApiError) || !error.problems.length) {
      app.tellError(error, "Not run");
      return null;
    }
    refuse(app, tab, error.problems);
    return null;
  }
}

/**
 * Runs only what a node needs, and shows on the node itself what it makes, where that is pictures.
 * @param {App} app
 * @param {Tab} tab
 * @param {string} id
 */
export async function runTo(app, tab, id) {
  const place = outputsOf(tab.editor.doc, app.specs, id).findIndex(({ port }) => port === "IMAGE");
  if (place < 0) return run(app, tab, { targets: [id] });
  const look = { class_type: "PreviewImage", inputs: { images: [id, place] } };
  return run(app, tab, { targets: [id, LOOK + id], doc: (doc) => ({ ...doc, nodes: { ...doc.nodes, [LOOK + id]: look } }) });
}

/**
 * Runs several times, each with its next seeds; where all seeds are fixed each has those that follow.
 * @param {App} app
 * @param {Tab} tab
 * @param {number} times
 */
export async function runTimes(app, tab, times) {
  const areFixed = Object.values(tab.editor.doc.ui?.seeds ?? {}).every((mode) => mode === "fixed");
  for (let turn = 0; turn < times; turn += 1) {
    const id = await run(app, tab, areFixed ? { doc: (doc) => withSeedsOn(doc, app.specs, turn) } : {});
    if (id === null) return;
  }
}

/**
 * Runs before all that waits.
 * @param {App} app
 * @param {Tab} tab
 */
export async function runNext(app, tab) {
  const waiting = app.runs.queue.getState().active.filter(({ status }) => status === "queued");
  const highest = Math.max(-1, ...waiting.map(({ priority }) => priority));
  return run(app, tab, { priority: Math.min(HIGHEST, highest + 1) });
}

/**
 * True when a tab runs by itself after each change.
 * @param {App} app
 * @param {Tab} tab
 */
export const isOnChange = (app, tab) => tab.client in app.runs.following.getState();

/**
 * Has a tab run by itself after each change of what is run, or no more.
 * @param {App} app
 * @param {Tab} tab
 * @param {boolean} isOn
 */
export function setOnChange(app, tab, isOn) {
  app.runs.follow(tab.client, isOn ? tab.editor.doc : null);
  app.announce(isOn ? "Each change is run from now on." : "Changes are no longer run by themselves.");
}

/**
 * Cancels the run of a tab that is under way, else the first of it that waits.
 * @param {App} app
 * @param {Tab} tab
 */
export async function stop(app, tab) {
  const mine = app.runs.queue.getState().active.find((one) => one.client === tab.client);
  if (!mine) return app.announce("Nothing of this tab runs.");
  await cancel(app, mine);
}

/**
 * Cancels a run.
 * @param {App} app
 * @param {{url: string}} one as `/v1/runs` has it
 */
export async function cancel(app, one) {
  await post(`${one.url}/cancel`).then(() => app.announce("Cancelled."), (error) => app.tellError(error, "Not cancelled"));
  app.runs.refresh();
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
    const isEmpty = !Object.keys(tab.editor.doc.nodes).length;
    const { problems } = isEmpty ? { problems: [] } : await post("/v1/check", { workflow: tab.editor.doc });
    if (mine !== number) return;
    app.changeTab(tab.id, { problems, isChecked: true });
    if (!problems.length) timer = window.setTimeout(() => void runChanged(app, tab), REST_MS);
  };
  const soon = () => {
    number += 1; // an answer under way is of an earlier document
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
    number += 1;
    clearTimeout(timer);
    end();
  };
}

/**
 * The document with the seeds of its next run, as each seed's mode says.
 * @param {Doc} doc
 * @param {Specs} specs
 * @returns {Doc}
 */
function withNewSeeds(doc, specs) {
  return Object.entries(doc.ui?.seeds ?? {}).reduce((found, [address, mode]) => {
    const [id, name] = [nodeOf(address), portOf(address)];
    const old = found.nodes[id]?.inputs[name];
    const input = found.nodes[id] && inputsOf(found, specs, id).find((one) => one.name === name);
    return mode === "fixed" || !input || isLink(old) ? found : setValue(found, id, name, nextSeed(input, valueOf(old) ?? input.default, mode));
  }, doc);
}

/**
 * Asks the planner again about a workflow that had problems a moment ago -> whether it has some now.
 * @param {App} app
 * @param {Tab} tab
 * @param {Doc} workflow
 */
async function isRefused(app, tab, workflow) {
  const known = app.store.getState().tabs.find(({ id }) => id === tab.id)?.problems ?? [];
  if (!known.length) return false;
  const { problems } = await post("/v1/check", { workflow });
  if (problems.length) refuse(app, tab, problems);
  return problems.length > 0;
}

/** @param {App} app @param {Tab} tab @param {Problem[]} problems */
function refuse(app, tab, problems) {
  app.changeTab(tab.id, { problems, isChecked: true });
  goToFirst(app);
  const { where, what } = problems[0];
  app.announce(`Not run: ${[where, what].filter(Boolean).join(": ")}`);
}

/**
 * Runs what a change matters to, in place of what the tab had waiting.
 * @param {App} app
 * @param {Tab} tab
 */
async function runChanged(app, tab) {
  const before = app.runs.following.getState()[tab.client];
  const { doc } = tab.editor;
  if (!before || before === doc) return;
  const targets = targetsChanged(before, doc, app.specs);
  app.runs.follow(tab.client, doc);
  if (!targets.length) return;
  const waiting = app.runs.queue.getState().active.filter((one) => one.client === tab.client && one.status === "queued");
  await Promise.all(waiting.map((one) => post(`${one.url}/cancel`).catch(() => {}))); // one may have ended meanwhile
  await run(app, tab, { targets, keepsSeeds: true });
}

/**
 * The document with every seed some numbers further.
 * @param {Doc} doc
 * @param {Specs} specs
 * @param {number} turn
 * @returns {Doc}
 */
function withSeedsOn(doc, specs, turn) {
  const seeds = Object.entries(doc.nodes).flatMap(([id, node]) => (
    (specs.nodes.get(node.class_type)?.inputs ?? []).filter(isSeed).map((input) => ({ id, input }))
  ));
  return seeds.reduce((found, { id, input }) => {
    const old = found.nodes[id].inputs[input.name];
    return isLink(old) ? found : setValue(found, id, input.name, moved(input, valueOf(old) ?? input.default ?? 0, turn));
  }, doc);
}
