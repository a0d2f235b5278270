/** Begins: reads what the server has, opens what was open, draws. */

import { createRoot, html } from "./vendor/flow.js";
import { Shell } from "./panels/Shell.js";
import { createApp } from "./state/app.js";
import { openFirst } from "./state/first.js";
import { AppContext } from "./state/use.js";

const root = createRoot(/** @type {HTMLElement} */ (document.getElementById("app")));
const app = createApp();

try {
  await app.load();
  await openFirst(app);
  app.connect();
  root.render(html`<${AppContext.Provider} value=${app}><${Shell} /><//>`);
} catch (error) {
  const text = error instanceof Error ? error.message : String(error);
  root.render(html`<main class="booting" role="alert"><h1>nodegraph</h1><p>${text}</p>
    <button class="button" onClick=${() => location.reload()}>Try again</button></main>`);
}
