/** What the last run did with a node: progress in its header, pictures and texts below its fields. */

import { html } from "../vendor/flow.js";
import { useApp, useNodeRun } from "../state/use.js";
import { duration, size } from "../words.js";

/** @import {Problem} from "../graph/types.js" */
/** @import {NodeRun} from "../state/progress.js" */

/**
 * The right end of a header: what is wrong, how far it is, or how it went.
 * @param {{id: string, problems: Problem[], mode?: string}} props
 */
export function NodeStatus({ id, problems, mode }) {
  const run = useNodeRun(id);
  if (problems.length) {
    return html`<span class="node-status is-wrong" title=${problems.map((problem) => sentence(problem)).join("\n")}>${problems.length === 1 ? "1 problem" : `${problems.length} problems`}</span>`;
  }
  if (mode) return html`<span class="node-status">${mode === "skip" ? "skipped" : "muted"}</span>`;
  if (!run || run.state === "waiting") return null;
  return html`<span class=${`node-status is-${run.state}`} title=${explained(run)}>${inShort(run)}</span>
    ${run.state === "running" && html`<progress class="node-progress" max=${run.total ?? 1} value=${run.step ?? 0} aria-label="progress"></progress>`}`;
}

/** Pictures and texts of a node. @param {{id: string}} props */
export function NodeResults({ id }) {
  const app = useApp();
  const run = useNodeRun(id);
  const files = run?.files ?? [];
  if (run?.state === "running" && run.preview) return html`<div class="node-results"><img class="node-picture" src=${run.preview} alt="preview" /></div>`;
  if (!files.length && !run?.texts?.length) return null;
  return html`<div class="node-results nodrag">
    ${files.filter(isPicture).map((file) => html`<button key=${file.url} class="node-picture-button" aria-label=${`open ${file.filename}`} onClick=${() => app.show({ kind: "viewer", files, file })}>
      <img class="node-picture" src=${`${file.url}?format=webp&size=512`} alt=${file.filename} loading="lazy" />
    </button>`)}
    ${run?.texts?.map((text, place) => html`<pre key=${place} class="node-text">${text}</pre>`)}
  </div>`;
}

/** @param {{format: string}} file */
const isPicture = ({ format }) => ["png", "jpg", "jpeg", "webp", "gif"].includes(format);

/** @param {NodeRun} run */
function inShort(run) {
  if (run.state === "running") {
    const left = run.secondsLeft === undefined || run.secondsLeft === null ? "" : ` · ${duration(run.secondsLeft)}`;
    return run.total ? `${run.step} / ${run.total}${left}` : "running";
  }
  if (run.state === "ran") return duration(run.seconds ?? 0);
  return run.state;
}

/** @param {NodeRun} run */
function explained(run) {
  if (run.state === "failed" || run.state === "blocked") return run.message ?? "";
  if (run.state === "cached") return run.tier === "disk" ? "Taken from disk: nothing it needs has changed." : "Still in memory: nothing it needs has changed.";
  return [run.why && `Why it ran: ${run.why}`, run.seconds !== undefined && `${duration(run.seconds)}, ${size(run.bytes ?? 0)}`].filter(Boolean).join("\n");
}

/** @param {Problem} problem */
function sentence(problem) {
  return [`${problem.input ? `${problem.input}: ` : ""}${problem.what}`, problem.expected && `expected ${problem.expected}`, problem.fix].filter(Boolean).join("; ");
}
