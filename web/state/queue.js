/** The queue of the server: what runs, what waits in the order of its turn, and what ran. */

import { createStore } from "../vendor/flow.js";
import { get } from "../net/api.js";
import { OVER } from "./progress.js";

const REFRESH_MS = 150;
const SLOW_MS = 1000; // between two looks at a queue of many
const MANY = 60;
const MOST = 500; // of a page, as the server has it
const RECENT = 20;

/**
 * @typedef {object} QueueState
 * @property {any[]} active runs that run or wait, as `/v1/runs` has them, the first to go first
 * @property {number} total how many there are of them on the server
 * @property {any[]} recent runs that are over, the newest first
 * @property {string | null} next cursor of those before them
 * @property {boolean} paused
 * @property {Record<string, number>} counts by status
 */

/**
 * Reads the queue.
 * @param {(runs: any[]) => void} onRead told of every run that was read
 */
export function createQueue(onRead) {
  const store = createStore(() => /** @type {QueueState} */ ({ active: [], total: 0, recent: [], next: null, paused: false, counts: {} }));
  let limit = MANY;
  let timer = 0;
  let reads = 0;

  /** Reads it now. */
  async function read() {
    clearTimeout(timer);
    timer = 0;
    const mine = (reads += 1);
    const [active, over, state] = await Promise.all([
      get("/v1/runs", { status: ["queued", "running"], order: "turn", limit }),
      get("/v1/runs", { status: OVER, limit: RECENT }),
      get("/v1/queue"),
    ]);
    if (mine !== reads) return;
    store.setState((old) => ({ active: active.runs, total: active.total, paused: state.paused, counts: state.counts, ...joined(old, over) }));
    onRead([...active.runs, ...store.getState().recent]);
  }

  return {
    store,
    read,
    /** Reads it again, soon. */
    refresh() {
      if (!timer) timer = window.setTimeout(() => read().catch(() => {}), store.getState().total > MANY ? SLOW_MS : REFRESH_MS);
    },
    /** Forgets older pages of what ran: some of it may be gone. */
    shorten() {
      store.setState(({ recent }) => ({ recent: recent.slice(0, RECENT), next: null }));
    },
    /** Reads more of what waits. */
    moreActive() {
      limit = Math.min(MOST, limit + 4 * MANY);
      return read();
    },
    /** Reads more of what ran. */
    async moreRecent() {
      const { next } = store.getState();
      if (!next) return;
      const { runs, next: further } = await get("/v1/runs", { status: OVER, limit: 3 * RECENT, cursor: next });
      store.setState(({ recent }) => ({ recent: [...recent, ...without(runs, recent)], next: further }));
    },
  };
}

/**
 * The newest page of what ran, and the older ones that had been read.
 * @param {QueueState} old
 * @param {{runs: any[], next: string | null}} page
 */
function joined(old, page) {
  const last = page.runs.at(-1)?.created ?? "";
  const older = without(old.recent, page.runs).filter((run) => run.created < last);
  return { recent: [...page.runs, ...older], next: older.length ? old.next : page.next };
}

/** @param {any[]} runs @param {any[]} known */
function without(runs, known) {
  const ids = new Set(known.map(({ id }) => id));
  return runs.filter(({ id }) => !ids.has(id));
}
