/** The bar above. */

import { html } from "../vendor/flow.js";
import { useApp, useAppState } from "../state/use.js";
import { Icon } from "../icons.js";
import { find } from "../commands.js";
import { useTheme } from "../state/theme.js";
import { LEFT } from "./places.js";
import { RunButtons } from "./RunButtons.js";
import { Tabs } from "./Tabs.js";

/** Name, tabs, whether the server is there, Stop and Run. */
export function TopBar() {
  const isOnline = useAppState((state) => state.isOnline);
  return html`<header class="top-bar">
    <h1 class="brand">nodegraph</h1>
    <${LeftButtons} />
    <${Tabs} />
    ${!isOnline && html`<span class="offline" role="status">Reconnecting</span>`}
    <${ViewSwitch} />
    <${FindButton} />
    <${RunButtons} />
    <${Theme} />
    <${RightButton} />
  </header>`;
}

/** Opens the search in the graph. */
function FindButton() {
  const app = useApp();
  return html`<button class="button find-button" aria-label="Find" aria-keyshortcuts="Control+F" onClick=${() => find(app)}><${Icon} name="search" /><span>Find</span> <kbd>Ctrl F</kbd></button>`;
}

/** Opens and closes the panels at the left. */
function LeftButtons() {
  const app = useApp();
  const left = useAppState((state) => state.left);
  return html`<nav class="bar-buttons" aria-label="Panels">${Object.entries(LEFT).map(([id, { title, icon }]) => html`
    <button key=${id} class="button is-quiet is-icon" aria-pressed=${left === id} aria-label=${title} title=${title}
      onClick=${() => app.store.setState({ left: left === id ? "" : id })}><${Icon} name=${icon ?? "menu"} /></button>`)}
  </nav>`;
}

/** Opens and closes the panels at the right. */
function RightButton() {
  const app = useApp();
  const right = useAppState((state) => state.right);
  const toggle = () => app.store.setState({ right: right ? "" : "queue" });
  return html`<button class="button is-quiet is-icon" aria-pressed=${Boolean(right)} aria-label="Queue and results" title="Queue and results" onClick=${toggle}><${Icon} name="dock" /></button>`;
}

/** Dark or light. */
function Theme() {
  const { theme, change } = useTheme();
  return html`<button class="button is-quiet is-icon bar-theme" aria-label=${`change to ${theme === "dark" ? "light" : "dark"} colours`} title="Colours" onClick=${change}><${Icon} name="sun" /></button>`;
}

/** Whether the tab in front shows its graph or its form. */
function ViewSwitch() {
  const app = useApp();
  const { active, shows } = useAppState(({ tabs, active }) => ({ active, shows: tabs.find(({ id }) => id === active)?.shows }));
  const views = /** @type {const} */ ([["graph", "Graph"], ["form", "Form"]]);
  return html`<div class="view-switch" role="group" aria-label="View">${views.map(([view, title]) => html`
    <button key=${view} aria-pressed=${shows === view} onClick=${() => app.changeTab(active, { shows: view })}>${title}</button>`)}
  </div>`;
}
