/** Begins: reads what the server has, opens what was open, draws. */

import { createRoot, html } from "./vendor/flow.js";
import { loadRest } from "./later.js";
import { Shell } from "./panels/Shell.js";
import { createApp } from "./state/app.js";
import { applyTheme, themeNow } from "./state/theme.js";
import { openFirst, openForm } from "./state/first.js";
import { AppContext } from "./state/use.js";

const root = createRoot(/** @type {HTMLElement} */ (document.getElementById("app")));
/** The app of this page, for tests and the console. */
export const app = createApp();
const form = decodeURIComponent(/^\/form\/(.+)$/.exec(location.pathname)?.[1] ?? "");

applyTheme(themeNow());

try {
  await app.load();
  const [Page] = await Promise.all([form ? formPage() : Shell, form ? openForm(app, form) : openFirst(app)]);
  app.connect();
  root.render(html`<${AppContext.Provider} value=${app}><${Page} /><//>`);
  await loadRest();
  document.documentElement.dataset.ready = ""; // for tests
} catch (error) {
  const text = error instanceof Error ? error.message : String(error);
  root.render(html`<main class="booting" role="alert"><h1>nodegraph</h1><p>${text}</p>
    <button class="button" onClick=${() => location.reload()}>Try again</button></main>`);
}

/** The page that needs no graph. */
async function formPage() {
  return (await import("./panels/FormPage.js")).FormPage;
}
