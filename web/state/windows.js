/** Which tabs each window of this browser had open, so that a reload, or a new start of the browser, has them again. */

import { keyval } from "../vendor/flow.js";
import { get } from "../net/api.js";
import { claim, newId } from "./claims.js";
import { RELOAD_MS } from "./drafts.js";

/** @import {App} from "./app.js" */
/** @import {DraftEntry, DraftRecord} from "./draft.js" */

const HERE = "nodegraph window";
const KEEP_DAYS = 14; // how long this browser has drafts whose tabs were closed
const DAY_MS = 86_400_000;

/** @typedef {{id: string, tabs: string[], active: string, seen: number}} WindowRecord */

/**
 * Opens what this window had open: after a reload its own tabs, in a new window those of one that was closed, in a
 * window that was duplicated copies of them. From then on what is open is kept -> whether anything was.
 * @param {App} app
 */
export async function restore(app) {
  const { place } = app.drafts;
  /** @type {Map<string, any>} */
  const stored = new Map((await keyval.entries(place).catch(() => [])).map(([key, value]) => [String(key), value]));
  const { id, source, isCopy } = await choose([...stored].filter(([key]) => key.startsWith("window:")).map(([, value]) => value));
  const entries = source && await get("/v1/drafts").then(({ drafts }) => drafts).catch(() => null);
  /** @type {DraftRecord[]} */
  const records = (source?.tabs ?? []).map((tab) => stored.get(`draft:${tab}`)).filter(Boolean);
  app.drafts.begin();
  for (const record of records) {
    const entry = entries && entries.find((/** @type {DraftEntry} */ one) => one.id === record.id);
    await app.drafts.open(record, isCopy ? null : entry, isCopy);
  }
  const { tabs } = app.store.getState();
  if (!isCopy && source && tabs.some((tab) => tab.id === source.active)) app.store.setState({ active: source.active });
  if (isCopy && tabs.length) app.toast("These tabs are copies: the window they were duplicated from has them open.");
  keep(app, id);
  forgetOld([...stored.values()], app);
  return tabs.length > 0;
}

/**
 * @param {WindowRecord[]} windows that were, or are, open in this browser
 * @returns {Promise<{id: string, source?: WindowRecord, isCopy: boolean}>}
 */
async function choose(windows) {
  const old = sessionStorage.getItem(HERE);
  const source = windows.find((one) => one.id === old);
  if (old && await claim(`window ${old}`, RELOAD_MS)) return { id: old, source, isCopy: false };
  if (!old) {
    for (const one of windows.toSorted((a, b) => b.seen - a.seen)) {
      if (await claim(`window ${one.id}`)) return { id: one.id, source: one, isCopy: false };
    }
  }
  const id = newId();
  await claim(`window ${id}`);
  return { id, source, isCopy: Boolean(old) };
}

/**
 * Writes which tabs are open, in which order, and which is in front.
 * @param {App} app
 * @param {string} id
 */
function keep(app, id) {
  sessionStorage.setItem(HERE, id);
  let written = "";
  const write = () => {
    const { tabs, active } = app.store.getState();
    const record = { id, tabs: tabs.map((tab) => tab.id), active };
    if (JSON.stringify(record) === written) return;
    written = JSON.stringify(record);
    void keyval.set(`window:${id}`, { ...record, seen: Date.now() }, app.drafts.place).catch(() => {}); // its drafts have told
  };
  write();
  app.store.subscribe(write);
}

/** @param {any[]} stored @param {App} app */
function forgetOld(stored, app) {
  const since = Date.now() - KEEP_DAYS * DAY_MS;
  for (const record of stored) {
    if (record.closed && record.closed < since) void keyval.del(`draft:${record.id}`, app.drafts.place).catch(() => {});
  }
}
