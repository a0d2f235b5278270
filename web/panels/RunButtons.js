/** Run and Stop, ways to run, how far it is, and how many problems keep the workflow from running. */

import { html, shallow, useEffect, useRef, useState, useStoreWithEqualityFn } from "../vendor/flow.js";
import { Icon } from "../icons.js";
import { nodeTitle } from "../state/naming.js";
import { goToFirst } from "../state/problems.js";
import { partOf } from "../state/progress.js";
import { isOnChange, run, runNext, runTimes, runTo, setOnChange, stop } from "../state/running.js";
import { TabContext, useApp, useAppState, useEditor, useRun, useTab } from "../state/use.js";
import { count, duration } from "../words.js";
import { showTitle } from "./pageTitle.js";

/** @import {App} from "../state/app.js" */

const MENU = "run-menu";
const MOST_TIMES = 100;

/** The buttons at the right end of the bar. */
export function RunButtons() {
  const app = useApp();
  const active = useAppState((state) => state.active);
  const tab = app.tabs.get(active);
  return tab && html`<${TabContext.Provider} value=${tab}><${Buttons} key=${tab.id} /><//>`;
}

function Buttons() {
  const app = useApp();
  const tab = useTab();
  const isOnline = useAppState((state) => state.isOnline);
  const problems = useAppState(({ tabs }) => tabs.find(({ id }) => id === tab.id)?.problems.length ?? 0);
  const isOn = useStoreWithEqualityFn(app.runs.following, () => isOnChange(app, tab));
  const isGoing = useStoreWithEqualityFn(app.runs.queue, ({ active }) => active.some(({ client }) => client === tab.client));
  const why = isOnline ? undefined : "The connection to the server is lost; it is tried again by itself.";
  return html`<div class="run-buttons">
    <${HowFar} />
    <${Outcome} />
    ${problems > 0 && html`<button class="button is-wrong" onClick=${() => goToFirst(app)}><${Icon} name="warn" />${count(problems, "problem")}</button>`}
    <button class="button stop-button" onClick=${() => void stop(app, tab)} disabled=${!isGoing} title="Cancel the run of this tab"><${Icon} name="stop" /><span>Stop</span></button>
    <span class=${`run-split ${isOn ? "is-on-change" : ""}`}>
      <button class="button is-primary run-button" disabled=${!isOnline} title=${why} onClick=${() => void run(app, tab)}>
        <${Icon} name="play" /><span>${isOn ? "Run on change" : "Run"}</span> <kbd>Ctrl ↵</kbd></button>
      <button class="button is-primary is-icon run-more" aria-label="Ways to run" aria-haspopup="dialog" popoverTarget=${MENU} disabled=${!isOnline} title=${why}><${Icon} name="chevron" /></button>
    </span>
    <${Menu} isOn=${isOn} />
  </div>`;
}

/** The ways to run. @param {{isOn: boolean}} props */
function Menu({ isOn }) {
  const app = useApp();
  const tab = useTab();
  const ref = useRef(/** @type {HTMLElement | null} */ (null));
  const [times, setTimes] = useState(4);
  const chosen = useEditor(({ selection, doc }) => [...selection].find((id) => id in doc.nodes) ?? "");
  const act = (/** @type {Promise<any> | void} */ _) => ref.current?.hidePopover();
  const title = chosen && nodeTitle(app, tab, chosen);
  return html`<div class="run-menu" id=${MENU} popover="auto" ref=${ref} role="dialog" aria-label="Ways to run">
    <button class="run-item" disabled=${!chosen} onClick=${() => act(runTo(app, tab, chosen))}>${chosen ? `Run to ${title}` : "Run to the selected node"}</button>
    <button class="run-item" onClick=${() => act(runNext(app, tab))}>Run before all that waits</button>
    <form class="run-item run-times" onSubmit=${(/** @type {Event} */ event) => {
      event.preventDefault();
      act(runTimes(app, tab, times));
    }}>
      <button class="button" type="submit">Run</button>
      <label><input class="run-count" type="number" min="1" max=${MOST_TIMES} value=${times} aria-label="how often"
        onChange=${(/** @type {any} */ event) => setTimes(Math.min(MOST_TIMES, Math.max(1, Math.round(Number(event.target.value)) || 1)))} /> times</label>
      <span class="quiet">each with its next seed</span>
    </form>
    <button class="run-item" role="switch" aria-checked=${isOn} onClick=${() => act(setOnChange(app, tab, !isOn))}>
      <span>Run on change</span><span class="run-switch" aria-hidden="true"></span></button>
  </div>`;
}

/** How far the run of the tab is; also in the page's title and icon. */
function HowFar() {
  const app = useApp();
  const tab = useTab();
  const { id, waiting } = useStoreWithEqualityFn(app.runs.queue, ({ active }) => {
    const mine = active.filter(({ client }) => client === tab.client);
    return { id: mine.find(({ status }) => status === "running")?.id, waiting: mine.filter(({ status }) => status === "queued").length };
  }, shallow);
  const progress = useStoreWithEqualityFn(app.runs.live, (live) => (id ? live[id] : undefined));
  const name = useAppState(({ tabs }) => tabs.find((one) => one.id === tab.id)?.name ?? "");
  const part = partOf(progress);
  const percent = part === null ? null : Math.round(part * 100);
  useEffect(() => showTitle(name, id ? percent ?? 0 : null), [name, id, percent]);
  if (!id) return waiting > 0 && html`<span class="run-state quiet">${count(waiting, "run")} waiting</span>`;
  return html`<span class="run-state quiet">${inWords(app, progress, tab)}</span>
    <progress class="run-progress" max="1" value=${part ?? undefined} aria-label="progress of the run"></progress>`;
}

/** Says how a run of the tab ended. */
function Outcome() {
  const app = useApp();
  const { run: id, status, error } = useRun((view) => ({ run: view?.run, status: view?.status, error: view?.error }));
  const before = useRef({ id, status });
  useEffect(() => {
    const wasGoing = before.current.id === id && ["queued", "running"].includes(before.current.status ?? "");
    before.current = { id, status };
    if (!wasGoing) return;
    if (status === "success") app.announce("The run is done.");
    if (status === "cancelled") app.announce("The run was cancelled.");
    if (status === "error") app.toast(`The run failed: ${(error ?? "").split("\n")[0]}`, "error", { label: "Details", run: () => app.show({ kind: "run", run: id }) });
  }, [app, id, status, error]);
  return null;
}

/** @param {App} app @param {import("../state/progress.js").Progress | undefined} progress @param {{client: string}} tab */
function inWords(app, progress, tab) {
  if (!progress?.node) return progress?.planned ? `${progress.done} of ${count(progress.planned, "node")}` : "Starting";
  const steps = progress.total ? ` ${progress.step} / ${progress.total}` : "";
  const left = progress.secondsLeft === undefined ? "" : ` · ${duration(Math.ceil(progress.secondsLeft))}`;
  const nodes = progress.planned ? ` · ${progress.done} of ${count(progress.planned, "node")}` : "";
  return `${nodeTitle(app, tab, progress.node, progress.type)}${steps}${left}${nodes}`;
}
