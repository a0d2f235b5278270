/** What to do when a workflow was saved elsewhere meanwhile, or its name is taken. */

import { html } from "../vendor/flow.js";
import { openIn, readWorkflow, shortName } from "../state/library.js";
import { overwrite } from "../state/saving.js";
import { useApp } from "../state/use.js";
import { Dialog } from "./Dialog.js";

/** @param {{id: string, workflow: string, isTaken: boolean, onClose: () => void}} props `id` of the tab */
export function ConflictDialog({ id, workflow, isTaken, onClose }) {
  const app = useApp();
  const see = () => {
    onClose();
    readWorkflow(workflow).then(({ doc, etag }) => openIn(app, doc, { name: `${shortName(workflow)} (theirs)`, workflow, base: etag }))
      .catch((error) => app.tellError(error, `"${workflow}" cannot be opened`));
  };
  const replace = () => {
    onClose();
    overwrite(app, id, workflow).catch((error) => app.tellError(error, "Not saved"));
  };
  const what = isTaken ? `There is a workflow "${workflow}" already` : `"${workflow}" was saved elsewhere meanwhile`;
  return html`<${Dialog} label=${what} className="sheet" onClose=${onClose}>
    <div class="sheet-form">
      <h2>${what}</h2>
      <p class="quiet">What you have here is not saved yet, and stays open. What is overwritten stays among the versions.</p>
      <div class="sheet-buttons">
        <button class="button" onClick=${see}>See theirs</button>
        <button class="button is-wrong" onClick=${replace}>Overwrite</button>
        <button class="button is-primary" onClick=${() => app.show({ kind: "save", id })}>Save as a copy…</button>
      </div>
    </div>
  <//>`;
}
