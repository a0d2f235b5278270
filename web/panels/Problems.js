/** What is wrong with the workflow, each with its place and the fix. */

import { html } from "../vendor/flow.js";
import { useApp, useAppState } from "../state/use.js";

/** The problems of the tab in front. */
export function Problems() {
  const app = useApp();
  const problems = useAppState(({ tabs, active }) => tabs.find((tab) => tab.id === active)?.problems ?? []);
  if (!problems.length) return html`<p class="empty">Nothing is wrong with this workflow.</p>`;
  return html`<ul class="problem-list">${problems.map((problem, place) => html`<li key=${place}>
    <button class="problem" disabled=${!problem.node} onClick=${() => problem.node && app.tab.view.reveal(problem.node)}>
      <strong>${problem.where || "The workflow"}</strong>
      <span>${problem.what}</span>
      ${problem.expected && html`<span class="quiet">Expected ${problem.expected}.</span>`}
      ${problem.fix && html`<span class="problem-fix">${problem.fix}</span>`}
    </button></li>`)}
  </ul>`;
}
