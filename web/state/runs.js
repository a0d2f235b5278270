/** The runs of the server: what each tab's run does, node by node, how far each is, and the queue. */

import { createStore } from "../vendor/flow.js";
import { get } from "../net/api.js";
import { createPreviews } from "./previews.js";
import { OVER, after, begun, progressAfter, progressOf, viewOf } from "./progress.js";
import { createQueue } from "./queue.js";

/** @import {Told} from "../net/socket.js" */
/** @import {Doc} from "../graph/types.js" */
/** @import {Progress, RunView} from "./progress.js" */

const FLUSH_MS = 100; // a timer, as frames do not come while the page is hidden
const HELD = 300; // runs, and events of each, that wait until it is known whose they are
const EARLIER = 3; // runs that a tab shows the results of after a reload

/** @typedef {ReturnType<typeof createRuns>} Runs */
/** @typedef {[Told, Blob | undefined]} Heard */

/**
 * Follows the runs of the server. A tab is known there as the client `canvas:ID`.
 * @param {(client: string, node: string) => string | null} shown the node of a tab's document that stands for one of a run
 * @param {(client: string) => boolean} isOpen whether a client is a tab that is open here
 */
export function createRuns(shown, isOpen) {
  /** Views by client. */
  const views = createStore(() => /** @type {Record<string, RunView>} */ ({}));
  /** How far runs under way are, by run. */
  const live = createStore(() => /** @type {Record<string, Progress>} */ ({}));
  const previews = createPreviews((client, node) => views.setState((old) => withoutPreview(old, client, node)));
  const queue = createQueue(learn);
  /** The documents that were run last of those clients that run by themselves after each change. */
  const following = createStore(() => /** @type {Record<string, Doc>} */ ({}));
  /** @type {Map<string, string>} clients by run */
  let clients = new Map();
  /** @type {Map<string, Heard[]>} events by run that cannot be taken yet */
  const held = new Map();
  /** @type {Set<string>} clients whose runs are being read */
  const resuming = new Set();
  /** @type {Set<string>} runs whose view lacks what happened before it was read */
  const partial = new Set();
  /** @type {Set<string>} runs of which it was asked whose they are */
  let asked = new Set();
  /** @type {Heard[]} */
  let waiting = [];
  let timer = 0;

  const soon = () => {
    timer ||= window.setTimeout(flush, FLUSH_MS);
  };

  /** Takes what has come of late, at once. */
  function flush() {
    timer = 0;
    const events = newestPreviews(waiting);
    waiting = [];
    const changed = { ...views.getState() };
    const going = { ...live.getState() };
    for (const [event, picture] of events) {
      const run = event.run ?? "";
      const client = clients.get(run);
      if (client === undefined || resuming.has(client)) {
        hold(run, [event, picture]);
        continue;
      }
      const node = event.node === undefined ? undefined : shown(client, event.node) ?? undefined;
      const address = picture && previews.keep(client, isOpen(client) ? node ?? run : run, picture);
      going[run] = progressAfter(going[run], event, address);
      if (event.type === "RunOver") delete going[run];
      if (isOpen(client)) tell(changed, client, { ...event, node }, address);
      else if (event.type === "RunOver") previews.drop(client, run);
    }
    views.setState(changed, true);
    live.setState(going, true);
  }

  /** @param {Record<string, RunView>} changed @param {string} client @param {Told} event @param {string} [address] */
  function tell(changed, client, event, address) {
    const { run = "", type } = event;
    const view = changed[client];
    if (view && view.run !== run) { // another run of this tab: it is shown when it begins, and none is under way
      if (view.status === "running" || type === "RunOver" || type === "RunQueued") return;
    }
    const isNew = view?.run !== run;
    changed[client] = after(isNew ? { run, status: "queued", nodes: begun(view) } : view, event, address);
    if (type === "NodeCached" && event.node) previews.drop(client, event.node);
    if (type === "RunOver" && (partial.delete(run) || hasAnother(client, run))) void resume(client).catch(() => {});
  }

  /** @param {string} client @param {string} run */
  const hasAnother = (client, run) => queue.store.getState().active.some((one) => one.client === client && one.id !== run && one.status === "running");

  /** @param {string} run @param {Heard} heard */
  function hold(run, heard) {
    held.set(run, [...(held.get(run) ?? []).slice(1 - HELD), heard]);
    if (held.size > HELD) held.delete(String(held.keys().next().value));
    if (!clients.has(run)) queue.refresh();
  }

  /** Takes what was held of runs that are known now. */
  function release() {
    /** @type {Heard[]} */
    const free = [];
    for (const [run, events] of held) {
      const client = clients.get(run);
      if (client === undefined ? !asked.has(run) : resuming.has(client)) continue;
      held.delete(run);
      if (client !== undefined) free.push(...events);
    }
    asked = new Set([...held.keys()].filter((run) => !clients.has(run)));
    if (!free.length) return;
    waiting = [...free, ...waiting];
    soon();
  }

  /** Takes in whose runs are, and how far those are that nothing was heard of. @param {any[]} runs */
  function learn(runs) {
    clients = new Map([...runs.map((run) => /** @type {const} */ ([run.id, run.client])), ...[...partial].map((run) => /** @type {const} */ ([run, clients.get(run) ?? ""]))]);
    const running = new Set(runs.filter((run) => run.status === "running").map((run) => run.id));
    const going = live.getState();
    if (Object.keys(going).some((run) => !running.has(run))) {
      live.setState(Object.fromEntries(Object.entries(going).filter(([run]) => running.has(run))), true);
    }
    for (const run of runs) if (running.has(run.id) && !going[run.id] && !held.has(run.id)) void look(run.url).catch(() => {});
    release();
  }

  /** @param {string} url of a run that nothing was heard of */
  async function look(url) {
    const run = await get(url);
    if (run.status === "running") live.setState((old) => ({ [run.id]: progressOf(run), ...old }));
  }

  /**
   * Reads what the newest runs of a client did: after a reload, or a lost connection.
   * @param {string} client
   */
  async function resume(client) {
    if (resuming.has(client)) return;
    resuming.add(client);
    try {
      const [going, over] = await Promise.all([
        get("/v1/runs", { client, status: ["queued", "running"], order: "turn", limit: 1 }),
        get("/v1/runs", { client, status: OVER, limit: EARLIER }),
      ]);
      for (const run of [...going.runs, ...over.runs]) clients.set(run.id, client);
      const known = views.getState()[client];
      const next = going.runs[0];
      const isNext = next && (next.status === "running" || next.id === known?.run || !over.runs.length);
      const missed = known ? Number(!isNext || next.id !== known.run) : EARLIER;
      const wanted = [...(isNext ? [next] : []), ...over.runs.slice(0, missed)];
      const runs = await Promise.all(wanted.map((run) => get(run.url)));
      if (!isOpen(client)) return;
      const found = runs.reverse().reduce((/** @type {RunView | undefined} */ view, run) => viewOf(run, (node) => shown(client, node), view?.nodes), known);
      if (found?.status === "running") partial.add(found.run);
      if (found) views.setState((old) => ({ ...old, [client]: found }));
    } finally {
      resuming.delete(client);
      release();
    }
  }

  return {
    queue: queue.store,
    views,
    live,
    following,
    read: queue.read,
    refresh: queue.refresh,
    moreActive: queue.moreActive,
    moreRecent: queue.moreRecent,
    resume,
    /**
     * Takes an event of the server.
     * @param {Told} event
     * @param {Blob} [picture]
     */
    take(event, picture) {
      if (event.type === "QueueChanged") queue.shorten();
      if (["QueueChanged", "RunQueued", "RunLeased", "RunOver", "RunRetried"].includes(event.type)) queue.refresh();
      if (!event.run) return;
      waiting.push([event, picture]);
      soon();
    },
    /**
     * Says whose a run is, before the queue was read again.
     * @param {string} run
     * @param {string} client
     */
    expect(run, client) {
      clients.set(run, client);
      waiting.push([{ type: "RunQueued", run }, undefined]);
      release();
      soon();
      queue.refresh();
    },
    /**
     * Writes down what was run last of a client that runs after each change; null where it does so no more.
     * @param {string} client
     * @param {Doc | null} doc
     */
    follow(client, doc) {
      following.setState(({ [client]: _, ...rest }) => (doc ? { ...rest, [client]: doc } : rest), true);
    },
    /**
     * Forgets a tab that was closed.
     * @param {string} client
     */
    forget(client) {
      following.setState(({ [client]: _, ...rest }) => rest, true);
      previews.dropAll(client);
      views.setState(({ [client]: _, ...rest }) => rest, true);
    },
  };
}

/** @param {Heard[]} events */
function newestPreviews(events) {
  const last = new Map(events.map(([event], place) => [`${event.type} ${event.run} ${event.node}`, place]));
  return events.filter(([event], place) => event.type !== "NodePreview" || last.get(`${event.type} ${event.run} ${event.node}`) === place);
}

/** @param {Record<string, RunView>} views @param {string} client @param {string} node */
function withoutPreview(views, client, node) {
  const view = views[client];
  if (!view?.nodes[node]) return views;
  return { ...views, [client]: { ...view, nodes: { ...view.nodes, [node]: { ...view.nodes[node], preview: undefined } } } };
}
