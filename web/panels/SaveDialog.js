/** Asks under which name a workflow is saved. */

import { html, useId } from "../vendor/flow.js";
import { put } from "../state/saving.js";
import { useApp } from "../state/use.js";
import { Dialog } from "./Dialog.js";
import { useWorkflows } from "./useLibrary.js";

const NAME_MOST = 100;

/** @param {{id: string, onClose: () => void}} props `id` of the tab */
export function SaveDialog({ id, onClose }) {
  const app = useApp();
  const folders = [...new Set((useWorkflows() ?? []).map(({ name }) => folderOf(name)).filter(Boolean))];
  const list = useId();
  const state = app.store.getState().tabs.find((tab) => tab.id === id);
  const doc = app.tabs.get(id)?.editor.doc;
  if (!state || !doc) return null;
  const submit = (/** @type {any} */ event) => {
    event.preventDefault();
    const given = new FormData(event.target);
    const [name, folder, about] = ["name", "folder", "doc"].map((field) => String(given.get(field)).trim());
    onClose();
    void put(app, id, [folder.replace(/^\/+|\/+$/g, ""), name].filter(Boolean).join("/"), { "If-None-Match": "*" }, about);
  };
  return html`<${Dialog} label="Save as" className="sheet" onClose=${onClose}>
    <form class="sheet-form" onSubmit=${submit}>
      <h2>Save as</h2>
      <label>Name<input class="field" name="name" required maxLength=${NAME_MOST} pattern="[^\\/\\\\]+" title="a name without slashes" autoFocus defaultValue=${state.name}
        onFocus=${(/** @type {any} */ event) => event.target.select()} /></label>
      <label>Folder<input class="field" name="folder" list=${list} maxLength=${NAME_MOST} placeholder="none" defaultValue=${folderOf(state.workflow ?? "")} /></label>
      <datalist id=${list}>${folders.map((folder) => html`<option key=${folder} value=${folder} />`)}</datalist>
      <label>What it does<textarea class="field" name="doc" rows="3" defaultValue=${doc.doc ?? ""} /></label>
      <div class="sheet-buttons"><button type="button" class="button" onClick=${onClose}>Cancel</button><button class="button is-primary">Save</button></div>
    </form>
  <//>`;
}

/** @param {string} name */
function folderOf(name) {
  return name.slice(0, Math.max(0, name.lastIndexOf("/")));
}
