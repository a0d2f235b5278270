/** The runs of the server: what each tab's last run does, node by node, and the queue. */

import { createStore } from "../vendor/flow.js";
import { get } from "../net/api.js";
import { after, viewOf } from "./progress.js";

/** @import {Told} from "../net/socket.js" */
/** @import {NodeRun, RunView} from "./progress.js" */

const REFRESH_MS = 150;
const OVER = ["success", "error", "cancelled"];

/**
 * @typedef {object} QueueState
 * @property {any[]} active runs that wait or run, as `/v1/runs` has them, the first to go first
 * @property {any[]} recent runs that are over, the newest first
 * @property {boolean} paused
 * @property {Record<string, number>} counts
 *
 * @typedef {ReturnType<typeof createRuns>} Runs
 */

/**
 * Follows the runs of the server. A tab is known there as the client `canvas:ID`.
 * @param {(client: string, node: string) => string | null} shown the node of a tab's document that stands for one of a run
 */
export function createRuns(shown) {
  const queue = createStore(() => /** @type {QueueState} */ ({ active: [], recent: [], paused: false, counts: {} }));
  /** Views by client. */
  const views = createStore(() => /** @type {Record<string, RunView>} */ ({}));
  /** @type {Map<string, string>} clients by run */
  const clients = new Map();
  /** @type {Map<string, string>} addresses of previews, by client and node */
  const previews = new Map();
  /** @type {[Told, Blob | undefined][]} */
  let waiting = [];
  let frame = 0;
  let timer = 0;

  /** Takes what has come since the last frame, at once. */
  function flush() {
    frame = 0;
    const events = waiting;
    waiting = [];
    const changed = { ...views.getState() };
    for (const [event, picture] of newestPreviews(events)) {
      const client = clients.get(event.run ?? "");
      if (client !== undefined) changed[client] = tell(client, changed[client], event, picture);
    }
    views.setState(changed);
  }

  /** @param {string} client @param {RunView | undefined} view @param {Told} event @param {Blob} [picture] */
  function tell(client, view, event, picture) {
    const node = event.node === undefined ? undefined : shown(client, event.node) ?? undefined;
    const isNew = view?.run !== event.run;
    const begun = isNew ? { run: event.run ?? "", status: /** @type {const} */ ("queued"), nodes: begin(view) } : view;
    if (isNew && view && !OVER.includes(view.status) && event.type === "RunQueued") return view;
    const address = picture && node !== undefined ? keep(client, node, picture) : undefined;
    if (event.type === "NodeFinished" && node !== undefined) drop(client, node);
    return after(/** @type {RunView} */ (begun), { ...event, node }, address);
  }

  /** @param {string} client @param {string} node @param {Blob} picture */
  function keep(client, node, picture) {
    drop(client, node);
    const address = URL.createObjectURL(picture);
    previews.set(`${client} ${node}`, address);
    return address;
  }

  /** @param {string} client @param {string} node */
  function drop(client, node) {
    const old = previews.get(`${client} ${node}`);
    if (old) window.setTimeout(() => URL.revokeObjectURL(old), 1000); // the picture in its place may not be drawn yet
    previews.delete(`${client} ${node}`);
  }

  /** Reads the queue again, soon. */
  function refresh() {
    if (!timer) timer = window.setTimeout(() => read().catch(() => {}), REFRESH_MS);
  }

  /** Reads the queue now. */
  async function read() {
    clearTimeout(timer);
    timer = 0;
    const [active, over, state] = await Promise.all([
      get("/v1/runs", { status: ["queued", "running"], limit: 200 }),
      get("/v1/runs", { status: OVER, limit: 30 }),
      get("/v1/queue"),
    ]);
    for (const run of active.runs) clients.set(run.id, run.client);
    queue.setState({ active: active.runs.reverse().sort(byTurn), recent: over.runs, paused: state.paused, counts: state.counts });
  }

  return {
    queue,
    views,
    refresh,
    read,
    /**
     * Takes an event of the server.
     * @param {Told} event
     * @param {Blob} [picture]
     */
    take(event, picture) {
      if (!event.run) return refresh();
      if (!clients.has(event.run) && event.client) clients.set(event.run, event.client);
      waiting.push([event, picture]);
      frame ||= requestAnimationFrame(flush);
      if (["RunQueued", "RunLeased", "RunOver", "RunRetried"].includes(event.type)) refresh();
    },
    /**
     * Says whose a run is, before its first event comes.
     * @param {string} run
     * @param {string} client
     */
    expect(run, client) {
      clients.set(run, client);
      waiting.push([{ type: "RunQueued", run }, undefined]);
      frame ||= requestAnimationFrame(flush);
      refresh();
    },
    /**
     * Reads what the newest runs of a client did: after a reload, or a lost connection.
     * @param {string} client
     */
    async resume(client) {
      const { runs } = await get("/v1/runs", { client, limit: 5 });
      const found = runs.find((/** @type {any} */ run) => run.status === "running") ?? runs.find((/** @type {any} */ run) => OVER.includes(run.status));
      for (const run of runs) clients.set(run.id, client);
      const waitsAlone = found ?? runs.at(-1);
      if (!waitsAlone) return;
      const run = await get(waitsAlone.url);
      views.setState((old) => ({ ...old, [client]: viewOf(run, (node) => shown(client, node), old[client]?.nodes) }));
    },
  };
}

/**
 * What stays of the nodes of the run before: their pictures, until there are new ones.
 * @param {RunView | undefined} view
 * @returns {Record<string, NodeRun>}
 */
function begin(view) {
  return Object.fromEntries(Object.entries(view?.nodes ?? {}).map(([id, { files, texts }]) => [id, { state: "waiting", files, texts }]));
}

/** @param {[Told, Blob | undefined][]} events */
function newestPreviews(events) {
  const last = new Map(events.map(([event], place) => [`${event.type} ${event.run} ${event.node}`, place]));
  return events.filter(([event], place) => event.type !== "NodePreview" || last.get(`${event.type} ${event.run} ${event.node}`) === place);
}

/** @param {any} one @param {any} other */
function byTurn(one, other) {
  return Number(other.status === "running") - Number(one.status === "running")
    || (one.position ?? 0) - (other.position ?? 0) || other.priority - one.priority;
}
