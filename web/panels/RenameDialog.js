/** Asks for another name of a workflow of the library. */

import { html } from "../vendor/flow.js";
import { rename } from "../state/library.js";
import { useApp } from "../state/use.js";
import { Dialog } from "./Dialog.js";

/** @param {{name: string, onClose: () => void}} props */
export function RenameDialog({ name, onClose }) {
  const app = useApp();
  const submit = (/** @type {any} */ event) => {
    event.preventDefault();
    const wanted = String(new FormData(event.target).get("name")).trim();
    onClose();
    if (wanted && wanted !== name) rename(app, name, wanted).catch((error) => app.tellError(error, "Not renamed"));
  };
  return html`<${Dialog} label=${`Rename ${name}`} className="sheet" onClose=${onClose}>
    <form class="sheet-form" onSubmit=${submit}>
      <h2>Rename</h2>
      <label>Name, with its folder<input class="field" name="name" required autoFocus maxLength="200" defaultValue=${name} /></label>
      <div class="sheet-buttons"><button type="button" class="button" onClick=${onClose}>Cancel</button><button class="button is-primary">Rename</button></div>
    </form>
  <//>`;
}
