/** All about a run: what failed with its traceback and inputs, and what became of each node. */

import { html, useEffect, useState } from "../vendor/flow.js";
import { get } from "../net/api.js";
import { nodeTitle, withTitles } from "../state/naming.js";
import { OVER } from "../state/progress.js";
import { openPlaced } from "../state/opening.js";
import { shownNode } from "../state/shown.js";
import { useApp } from "../state/use.js";
import { duration, size } from "../words.js";
import { Dialog } from "./Dialog.js";
import { retry } from "./QueueCard.js";

const STATES = /** @type {Record<string, string>} */ ({ success: "done", error: "failed", cancelled: "cancelled", queued: "waiting", running: "running" });

/**
 * The dialog of a run.
 * @param {{run: string, node?: string, onClose: () => void}} props
 */
export function RunDetails({ run: id, onClose }) {
  const app = useApp();
  const [run, setRun] = useState(/** @type {any} */ (null));
  const [wrong, setWrong] = useState("");
  useEffect(() => {
    get(`/v1/runs/${encodeURIComponent(id)}`).then(setRun, (error) => setWrong(error.message));
  }, [id]);
  return html`<${Dialog} label="Run" className="run-details" onClose=${onClose}>
    <header class="dialog-head"><h2>${run ? `${run.workflow || "Untitled"}: ${STATES[run.status]}` : "Run"}</h2>
      <button class="button is-quiet" onClick=${onClose}>Close</button></header>
    ${wrong && html`<p role="alert">${wrong}</p>`}
    ${run && html`<${Whole} run=${run} onClose=${onClose} />
    <footer class="dialog-foot">
      <button class="button" onClick=${() => void openPlaced(app, { run: run.id }).then(onClose)}>Open its workflow</button>
      ${OVER.includes(run.status) && html`<button class="button is-primary" onClick=${() => void retry(app, run).then(onClose)}>Retry</button>`}
    </footer>`}
  <//>`;
}

/** @param {{run: any, onClose: () => void}} props */
function Whole({ run, onClose }) {
  const app = useApp();
  return html`<div class="run-body">
    <p class="quiet">${inShort(run)}</p>
    ${run.error && html`<${Failure} run=${run} onClose=${onClose} />`}
    ${run.nodes.length > 0 && html`<table class="run-nodes">
      <thead><tr><th scope="col">Node</th><th scope="col">Result</th><th scope="col">Why it ran</th><th scope="col">Time</th><th scope="col">Size</th></tr></thead>
      <tbody>${run.nodes.map((/** @type {any} */ node) => html`<tr key=${node.node} class=${`is-${node.state}`}>
        <th scope="row">${nodeTitle(app, run, node.node, node.class_type)}</th>
        <td>${node.state === "cached" ? (node.tier === "disk" ? "from disk" : "cached") : node.state}</td><td>${withTitles(app, run, node.why ?? "")}
          ${(node.notes ?? []).map((/** @type {string} */ note) => html`<p key=${note} class="quiet">${withTitles(app, run, note)}</p>`)}</td>
        <td>${node.state === "ran" ? duration(node.seconds) : ""}</td><td>${node.bytes ? size(node.bytes) : ""}</td>
      </tr>`)}</tbody>
    </table>`}
  </div>`;
}

/** @param {{run: any, onClose: () => void}} props */
function Failure({ run, onClose }) {
  const app = useApp();
  const { error } = run;
  const [isCopied, setCopied] = useState(false);
  const id = run.client === app.tab.client && error.node ? shownNode(app.tab.editor.doc, error.node) : null;
  const copy = () => navigator.clipboard.writeText(report(run)).then(() => setCopied(true), (problem) => app.toast(`Not copied: ${problem.message}`, "error"));
  const reveal = () => {
    onClose();
    app.tab.view.reveal(/** @type {string} */ (id));
  };
  return html`<section class="run-failure">
    ${error.node && html`<h3>${nodeTitle(app, run, error.node, error.class_type)}</h3>`}
    <p role="alert">${error.message}</p>
    <p class="run-actions">
      <button class="button" onClick=${copy}>${isCopied ? "Copied" : "Copy"}</button>
      ${id && html`<button class="button" onClick=${reveal}>Show the node</button>`}
    </p>
    ${error.inputs && Object.keys(error.inputs).length > 0 && html`<h4>Inputs</h4>
      <dl class="run-inputs">${Object.entries(error.inputs).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`}
    ${error.traceback && html`<h4>Traceback</h4><pre class="run-traceback" tabIndex=${0}>${error.traceback}</pre>`}
  </section>`;
}

/** @param {any} run */
function inShort(run) {
  return [
    run.position !== null && run.position !== undefined && (run.position ? `${run.position} before it` : "next in line"),
    run.seconds !== null && `took ${duration(run.seconds)}`, run.waited > 0.1 && `waited ${duration(run.waited)}`,
    run.attempts > 1 && `${run.attempts} attempts`, run.retry_of && "a retry", new Date(run.created).toLocaleString(),
  ].filter(Boolean).join(" · ");
}

/** What is copied, for a report. @param {any} run */
function report({ id, error }) {
  const inputs = Object.entries(error.inputs ?? {}).map(([name, value]) => `  ${name} = ${value}`);
  return [`Run ${id}`, error.node && `Node ${error.node} (${error.class_type})`, error.message, inputs.length && `Inputs:\n${inputs.join("\n")}`, error.traceback].filter(Boolean).join("\n\n");
}
