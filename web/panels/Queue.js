/** The queue: what runs, what waits and in which order, and what ran. */

import { html, shallow, useState, useStoreWithEqualityFn } from "../vendor/flow.js";
import { call, get, post } from "../net/api.js";
import { useApp, useAppState } from "../state/use.js";
import { count } from "../words.js";
import { RecentCard, RunningCard, WaitingCard } from "./QueueCard.js";

/** @import {App} from "../state/app.js" */

const PAGE = 500;
const AT_ONCE = 6;

/** The queue of the server; runs of the tab in front are marked. */
export function Queue() {
  const app = useApp();
  const { active, recent, next, paused, total, counts } = useStoreWithEqualityFn(app.runs.queue, (state) => state, shallow);
  const client = useAppState((state) => `canvas:${state.active}`);
  const scope = useAppState((state) => state.me.scope);
  const running = active.filter(({ status }) => status === "running");
  const waiting = active.filter(({ status }) => status === "queued");
  const isEmpty = !active.length && !recent.length;
  return html`<div class="queue">
    <div class="queue-bar">
      ${waiting.length > 0 && html`<button class="button" onClick=${() => void clearWaiting(app)}>Clear waiting</button>`}
      ${scope === "admin" && html`<button class="button" aria-pressed=${paused} onClick=${() => void setPaused(app, !paused)}>${paused ? "Resume" : "Pause"}</button>`}
    </div>
    ${paused && html`<p class="queue-note" role="status">The queue is paused: what runs is finished, and nothing else begins.</p>`}
    ${isEmpty && html`<p class="empty">Nothing has run yet. Press Run, or Ctrl and Enter.</p>`}
    ${running.length > 0 && html`<h3 class="queue-title">Running</h3>
      <ul class="cards">${running.map((run) => html`<${RunningCard} key=${run.id} run=${run} isMine=${run.client === client} />`)}</ul>`}
    ${waiting.length > 0 && html`<${Waiting} runs=${waiting} client=${client} number=${counts.queued ?? waiting.length} />`}
    ${total > active.length && html`<button class="button queue-more" onClick=${() => void app.runs.moreActive()}>${active.length < PAGE ? "Show more that wait" : `${total - active.length} more wait`}</button>`}
    ${recent.length > 0 && html`<h3 class="queue-title">Recent</h3>
      <ul class="cards">${recent.map((run) => html`<${RecentCard} key=${run.id} run=${run} isMine=${run.client === client} />`)}</ul>`}
    ${next && html`<button class="button queue-more" onClick=${() => void app.runs.moreRecent().catch((error) => app.tellError(error))}>Show older</button>`}
  </div>`;
}

/** How many runs run or wait, beside the panel's name. */
export function QueueBadge() {
  const app = useApp();
  const number = useStoreWithEqualityFn(app.runs.queue, ({ counts }) => (counts.queued ?? 0) + (counts.running ?? 0));
  return number > 0 && html`<span class="badge">${number}<span class="visually-hidden"> run or wait</span></span>`;
}

/** What waits, movable. @param {{runs: any[], client: string, number: number}} props */
function Waiting({ runs, client, number }) {
  const app = useApp();
  const [dragged, setDragged] = useState("");
  const [over, setOver] = useState("");
  const move = (/** @type {any} */ run, /** @type {number} */ to) => void moveTo(app, runs, run, to);
  /** @param {any} run @param {number} place */
  const drag = (run, place) => ({
    onDragStart: () => setDragged(run.id),
    onDragOver: (/** @type {DragEvent} */ event) => {
      if (!dragged) return;
      event.preventDefault();
      setOver(run.id);
    },
    onDragEnd: () => {
      setDragged("");
      setOver("");
    },
    onDrop: (/** @type {DragEvent} */ event) => {
      event.preventDefault();
      const found = runs.find(({ id }) => id === dragged);
      if (found && found !== run) move(found, place);
    },
  });
  return html`<h3 class="queue-title">Waiting <span class="badge">${number}</span></h3>
    <ol class="cards">${runs.map((run, place) => html`<${WaitingCard} key=${run.id} run=${run} place=${place} isMine=${run.client === client}
      isFirst=${place === 0} isLast=${place === runs.length - 1} isDraggedOver=${Boolean(dragged) && over === run.id && dragged !== run.id}
      onMove=${move} drag=${drag(run, place)} />`)}</ol>`;
}

/**
 * Moves a run to the place of another one, which takes on its priority.
 * @param {App} app
 * @param {any[]} runs that wait, in their order
 * @param {any} run
 * @param {number} to
 */
async function moveTo(app, runs, run, to) {
  const { priority } = runs[to];
  const rest = runs.filter(({ id }) => id !== run.id);
  const position = rest.slice(0, to).filter((one) => one.priority === priority).length;
  try {
    await call("PATCH", run.url, { json: { priority, position } });
    app.announce(`${run.workflow || "The run"} is number ${to + 1} of those that wait.`);
  } catch (error) {
    app.tellError(error, "Not moved");
  }
  await app.runs.read().catch(() => {});
}

/** Cancels all that waits and may be cancelled; it can be taken back. @param {App} app */
async function clearWaiting(app) {
  try {
    const { me } = app.store.getState();
    const { runs } = await get("/v1/runs", { status: "queued", limit: PAGE });
    const mine = runs.filter((/** @type {any} */ run) => me.scope !== "run" || run.owner === me.name);
    await inTurn(mine.reverse(), (run) => post(`${run.url}/cancel`));
    app.toast(`${count(mine.length, "run")} cancelled.`, "note", {
      label: "Undo",
      run: () => void inTurn(mine, (run) => post(`${run.url}/retry`)).catch((error) => app.tellError(error)),
    });
  } catch (error) {
    app.tellError(error, "Not cleared");
  }
}

/** @param {App} app @param {boolean} isPaused */
async function setPaused(app, isPaused) {
  await post(`/v1/queue/${isPaused ? "pause" : "resume"}`).catch((error) => app.tellError(error));
  await app.runs.read().catch(() => {});
}

/**
 * Does something with each of some runs, a few at once.
 * @param {any[]} runs
 * @param {(run: any) => Promise<any>} act
 */
async function inTurn(runs, act) {
  for (let first = 0; first < runs.length; first += AT_ONCE) await Promise.all(runs.slice(first, first + AT_ONCE).map(act));
}
