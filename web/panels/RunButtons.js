/** Run and Stop, and how many problems keep the workflow from running. */

import { html, useStoreWithEqualityFn } from "../vendor/flow.js";
import { run, stop } from "../state/running.js";
import { useApp, useAppState } from "../state/use.js";
import { count } from "../words.js";

/** The buttons at the right end of the bar. */
export function RunButtons() {
  const app = useApp();
  const problems = useAppState(({ tabs, active }) => tabs.find((tab) => tab.id === active)?.problems.length ?? 0);
  const { counts } = useStoreWithEqualityFn(app.runs.queue, (state) => state);
  const waiting = (counts.queued ?? 0) + (counts.running ?? 0);
  return html`<div class="run-buttons">
    ${problems > 0 && html`<button class="button is-wrong" onClick=${() => app.store.setState({ right: "problems" })}>${count(problems, "problem")}</button>`}
    <button class="button" onClick=${() => stop(app, app.tab)} disabled=${!waiting}>Stop</button>
    <button class="button is-primary" onClick=${() => run(app, app.tab)}>Run <kbd>Ctrl ↵</kbd></button>
  </div>`;
}
