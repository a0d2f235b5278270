/** The page of one workflow's form, for people who do not need the graph: `/form/NAME`. */

import { html, useEffect } from "../vendor/flow.js";
import { keepChecked } from "../state/running.js";
import { TabContext, useApp, useAppState } from "../state/use.js";
import { Part } from "./Part.js";
import { Form, OVERLAYS } from "./places.js";
import { Toasts } from "./Toasts.js";

/** The whole page. */
export function FormPage() {
  const app = useApp();
  const { active, overlay, said, isOnline, scope } = useAppState((state) => ({
    active: state.active, overlay: state.overlay, said: state.said, isOnline: state.isOnline, scope: state.me.scope,
  }));
  const tab = app.tabs.get(active);
  const name = useAppState(({ tabs }) => tabs[0]?.workflow ?? "");
  useEffect(() => (tab ? keepChecked(app, tab) : undefined), [app, tab]);
  const dialog = overlay && OVERLAYS[overlay.kind];
  return html`<${TabContext.Provider} value=${tab}>
    <div class="form-page">
      <header class="top-bar"><h1 class="brand">nodegraph</h1>${!isOnline && html`<span class="offline" role="status">Reconnecting</span>`}
        ${scope !== "run" && html`<a class="button form-graph" href=${`/?workflow=${encodeURIComponent(name)}`}>Open the graph</a>`}</header>
      <main><${Part}>${tab && html`<${Form} key=${tab.id} />`}<//></main>
      <${Toasts} />
      <div class="visually-hidden" role="status" aria-live="polite">${said}</div>
    </div>
    ${overlay && dialog && html`<${Part} key=${overlay.kind}><${dialog} ...${overlay} onClose=${() => app.show(null)} /><//>`}
  <//>`;
}
