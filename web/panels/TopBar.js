/** The bar above. */

import { html } from "../vendor/flow.js";
import { useAppState } from "../state/use.js";
import { RunButtons } from "./RunButtons.js";
import { Tabs } from "./Tabs.js";

/** Name, tabs, whether the server is there, Stop and Run. */
export function TopBar() {
  const isOnline = useAppState((state) => state.isOnline);
  return html`<header class="top-bar">
    <h1 class="brand">nodegraph</h1>
    <${Tabs} />
    ${!isOnline && html`<span class="offline" role="status">Reconnecting</span>`}
    <${RunButtons} />
  </header>`;
}
