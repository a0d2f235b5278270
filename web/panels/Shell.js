/** The page: the bar above, the panels at the sides, the canvas between them, dialogs over all. */

import { html, useEffect } from "../vendor/flow.js";
import { Canvas } from "../canvas/Canvas.js";
import { keepChecked } from "../state/running.js";
import { TabContext, useApp, useAppState } from "../state/use.js";
import { useKeys } from "./keys.js";
import { LEFT, OVERLAYS, RIGHT } from "./places.js";
import { TopBar } from "./TopBar.js";
import { Toasts } from "./Toasts.js";

/** The whole page. */
export function Shell() {
  const app = useApp();
  const { active, left, right, overlay, said } = useAppState(({ active, left, right, overlay, said }) => ({ active, left, right, overlay, said }));
  const tab = app.tabs.get(active);
  useKeys();
  useEffect(() => (tab ? keepChecked(app, tab) : undefined), [app, tab]);
  const dialog = overlay && OVERLAYS[overlay.kind];
  return html`<${TabContext.Provider} value=${tab}>
    <div class="shell">
      <${TopBar} />
      ${LEFT[left] && html`<aside class="dock dock-left" aria-label=${LEFT[left].title}><${LEFT[left].Panel} /></aside>`}
      <main class="stage">${tab && html`<${Canvas} key=${tab.id} />`}</main>
      ${RIGHT[right] && html`<${Dock} place=${right} />`}
      <${Toasts} />
      <div class="visually-hidden" role="status" aria-live="polite">${said}</div>
    </div>
    ${overlay && dialog && html`<${dialog} ...${overlay} onClose=${() => app.show(null)} />`}
  <//>`;
}

/** The panels at the right, one of which is seen. @param {{place: string}} props */
function Dock({ place }) {
  const app = useApp();
  return html`<aside class="dock dock-right" aria-label=${RIGHT[place].title}>
    <div class="dock-tabs" role="tablist">${Object.entries(RIGHT).map(([id, { title }]) => html`
      <button key=${id} role="tab" id=${`dock-${id}`} aria-selected=${id === place} class="dock-tab" onClick=${() => app.store.setState({ right: id })}>${title}</button>`)}
    </div>
    <div class="dock-body" role="tabpanel" aria-labelledby=${`dock-${place}`}><${RIGHT[place].Panel} /></div>
  </aside>`;
}
