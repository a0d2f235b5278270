/** The page: the bar above, the panels at the sides, the canvas between them, dialogs over all. */

import { html, useEffect } from "../vendor/flow.js";
import { Canvas } from "../canvas/Canvas.js";
import { keepChecked } from "../state/running.js";
import { TabContext, useApp, useAppState } from "../state/use.js";
import { Icon } from "../icons.js";
import { useKeys } from "./keys.js";
import { Part } from "./Part.js";
import { Form, GraphKeys, LEFT, OVERLAYS, OverCanvas, RIGHT } from "./places.js";
import { TopBar } from "./TopBar.js";
import { Toasts } from "./Toasts.js";

/** The whole page. */
export function Shell() {
  const app = useApp();
  const { active, left, right, overlay, said } = useAppState(({ active, left, right, overlay, said }) => ({ active, left, right, overlay, said }));
  const tab = app.tabs.get(active);
  const isForm = useAppState((state) => state.tabs.find(({ id }) => id === state.active)?.shows === "form");
  useKeys();
  useEffect(() => (tab ? keepChecked(app, tab) : undefined), [app, tab]);
  const dialog = overlay && OVERLAYS[overlay.kind];
  return html`<${TabContext.Provider} value=${tab}>
    <div class="shell">
      <${TopBar} />
      ${LEFT[left] && html`<${LeftDock} place=${left} />`}
      <main class="stage"><${Part} key=${`${active} ${isForm}`}>${tab && html`<${isForm ? Form : Canvas} key=${tab.id} />`}<//><${Part}><${OverCanvas} /><${GraphKeys} /><//></main>
      ${RIGHT[right] && html`<${Dock} place=${right} />`}
      <${Toasts} />
      <div class="visually-hidden" role="status" aria-live="polite">${said}</div>
    </div>
    ${overlay && dialog && html`<${Part} key=${overlay.kind}><${dialog} ...${overlay} onClose=${() => app.show(null)} /><//>`}
  <//>`;
}

/** The panel at the left. @param {{place: string}} props */
function LeftDock({ place }) {
  const app = useApp();
  return html`<aside class="dock dock-left" aria-label=${LEFT[place].title}>
    <div class="dock-head"><h2>${LEFT[place].title}</h2><${CloseDock} onClose=${() => app.store.setState({ left: "" })} /></div>
    <div class="dock-body"><${Part} key=${place}><${LEFT[place].Panel} /><//></div>
  </aside>`;
}

/** @param {{onClose: () => void}} props */
function CloseDock({ onClose }) {
  return html`<button class="button is-quiet is-icon dock-close" aria-label="close the panel" onClick=${onClose}><${Icon} name="close" /></button>`;
}

/** The panels at the right, one of which is seen. @param {{place: string}} props */
function Dock({ place }) {
  const app = useApp();
  return html`<aside class="dock dock-right" aria-label=${RIGHT[place].title}>
    <div class="dock-head"><div class="dock-tabs" role="tablist">${Object.entries(RIGHT).map(([id, { title, Badge }]) => html`
      <button key=${id} role="tab" id=${`dock-${id}`} aria-selected=${id === place} class="dock-tab" onClick=${() => app.store.setState({ right: id })}>${title}${Badge && html` <${Badge} />`}</button>`)}
    </div><${CloseDock} onClose=${() => app.store.setState({ right: "" })} /></div>
    <div class="dock-body" role="tabpanel" aria-labelledby=${`dock-${place}`}><${Part} key=${place}><${RIGHT[place].Panel} /><//></div>
  </aside>`;
}
