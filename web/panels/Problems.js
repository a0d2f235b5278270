/** What is wrong with the workflow, by node, each with its place and the fix. */

import { html, useMemo } from "../vendor/flow.js";
import { nodeTitle } from "../state/naming.js";
import { goTo, inOrder } from "../state/problems.js";
import { useApp, useAppState } from "../state/use.js";

/** @import {App} from "../state/app.js" */
/** @import {Problem} from "../graph/types.js" */

/** The problems of the tab in front. */
export function Problems() {
  const app = useApp();
  const tab = useAppState(({ tabs, active }) => tabs.find((one) => one.id === active));
  const problems = tab?.problems;
  const groups = useMemo(() => grouped(app, problems ?? []), [app, problems]);
  if (!groups.length) return html`<p class="empty">${tab?.isChecked ? "Nothing is wrong with this workflow." : "Looking for problems…"}</p>`;
  return html`<div class=${tab?.isChecked ? "" : "is-stale"}>${groups.map(({ title, node, items }) => html`<section key=${node} class="problem-group" aria-label=${title}>
    <h3 class="queue-title">${title}</h3>
    <ul class="problem-list">${items.map((problem, place) => html`<li key=${place}><${One} problem=${problem} /></li>`)}</ul>
  </section>`)}</div>`;
}

/** How many problems there are, beside the panel's name. */
export function ProblemsBadge() {
  const number = useAppState(({ tabs, active }) => tabs.find((one) => one.id === active)?.problems.length ?? 0);
  return number > 0 && html`<span class="badge is-wrong">${number}<span class="visually-hidden"> ${number === 1 ? "problem" : "problems"}</span></span>`;
}

/** @param {{problem: Problem}} props */
function One({ problem }) {
  const app = useApp();
  return html`<button class="problem" disabled=${!problem.node} onClick=${() => goTo(app, problem)}>
    <strong>${problem.input || problem.class_type || problem.where || "The workflow"}</strong>
    <span>${problem.what}.</span>
    ${problem.expected && html`<span class="quiet">Expected ${problem.expected}.</span>`}
    ${problem.fix && html`<span class="problem-fix">${problem.fix}.</span>`}
    ${problem.kind === "missing_model" && html`<span class="problem-fix">${whereTo(app, problem)}</span>`}
  </button>`;
}

/** What to do about a file that is not there; "" where the problem says it already. @param {App} app @param {Problem} problem */
function whereTo(app, problem) {
  const kind = app.specs.nodes.get(problem.class_type ?? "")?.inputs.find(({ name }) => name === problem.input)?.file;
  if (kind && ["input", "output", "temp"].includes(kind)) return "";
  return `Put the file into ${kind ? `the folder models/${kind}` : "the folder for models of its kind"}, or choose one that is there.`;
}

/** @param {App} app @param {Problem[]} problems */
function grouped(app, problems) {
  /** @type {Map<string, Problem[]>} */
  const groups = new Map();
  for (const problem of inOrder(app.tab.editor.doc, problems)) groups.set(problem.node ?? "", [...(groups.get(problem.node ?? "") ?? []), problem]);
  return [...groups].map(([node, items]) => ({ node, items, title: node ? nodeTitle(app, app.tab, node, items[0].class_type) : "The workflow" }));
}
