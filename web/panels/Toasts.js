/** What is said in a corner of the page. */

import { html } from "../vendor/flow.js";
import { Icon } from "../icons.js";
import { useApp, useAppState } from "../state/use.js";

/** The toasts that are up. */
export function Toasts() {
  const app = useApp();
  const toasts = useAppState((state) => state.toasts);
  return html`<div class="toasts">${toasts.map(({ id, kind, text, action }) => html`
    <div key=${id} class=${`toast is-${kind}`}><span>${text}</span>
      ${action && html`<button class="button is-quiet" onClick=${action.run}>${action.label}</button>`}
      <button class="button is-quiet is-icon toast-close" aria-label="close this message" onClick=${() => app.dismiss(id)}><${Icon} name="close" /></button></div>`)}
  </div>`;
}
