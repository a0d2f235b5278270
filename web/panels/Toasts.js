/** What is said in a corner of the page. */

import { html } from "../vendor/flow.js";
import { useAppState } from "../state/use.js";

/** The toasts that are up. */
export function Toasts() {
  const toasts = useAppState((state) => state.toasts);
  return html`<div class="toasts">${toasts.map(({ id, kind, text, action }) => html`
    <div key=${id} class=${`toast is-${kind}`}><span>${text}</span>
      ${action && html`<button class="button is-quiet" onClick=${action.run}>${action.label}</button>`}</div>`)}
  </div>`;
}
