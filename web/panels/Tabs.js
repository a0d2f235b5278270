/** The open workflows. */

import { html } from "../vendor/flow.js";
import { useApp, useAppState } from "../state/use.js";

/** A tab for each open document. */
export function Tabs() {
  const app = useApp();
  const { tabs, active } = useAppState(({ tabs, active }) => ({ tabs, active }));
  return html`<nav class="tabs" aria-label="Open workflows">${tabs.map((tab) => html`
    <button key=${tab.id} class="tab" aria-current=${tab.id === active ? "page" : undefined} onClick=${() => app.store.setState({ active: tab.id })}>${tab.name}</button>`)}
  </nav>`;
}
