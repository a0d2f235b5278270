/** What runs and waits, and what ran. */

import { html, useStoreWithEqualityFn } from "../vendor/flow.js";
import { post } from "../net/api.js";
import { useApp } from "../state/use.js";

/** The queue. */
export function Queue() {
  const app = useApp();
  const { active, recent } = useStoreWithEqualityFn(app.runs.queue, (state) => state);
  if (!active.length && !recent.length) return html`<p class="empty">Nothing has run yet. Press Run, or Ctrl and Enter.</p>`;
  return html`<ul class="cards">${[...active, ...recent].map((run) => html`<li key=${run.id} class=${`card is-${run.status}`}>
    <span class="card-text"><strong>${run.workflow || "Untitled"}</strong><span class="quiet">${run.status}</span></span>
    ${["queued", "running"].includes(run.status) && html`<button class="button is-icon" aria-label=${`cancel ${run.workflow}`} onClick=${() => post(`${run.url}/cancel`).catch((error) => app.tellError(error))}>×</button>`}
  </li>`)}</ul>`;
}
