/** The form beside the graph: filled in here, and made here by dragging fields of nodes into it. */

import { html, useMemo, useState } from "../vendor/flow.js";
import { declare, declareOutput, declaredAs, nameSection, outputsDeclared, undeclare } from "../graph/form.js";
import { inputsOf, isLink, outputsOf, titleOf } from "../graph/ports.js";
import { useAppState, useEditor, useTab } from "../state/use.js";
import { Icon } from "../icons.js";
import { FormFields, useDrop } from "./FormFields.js";

/** The panel. */
export function FormPanel() {
  const { editor } = useTab();
  const name = useAppState(({ tabs, active }) => tabs.find((tab) => tab.id === active)?.workflow ?? "");
  const count = useEditor((state) => Object.keys(state.doc.inputs ?? {}).length);
  const drop = useDrop((_, address) => address && editor.edit("Add to the form", (doc) => declare(doc, address)));
  const section = () => editor.edit("Add a section", (doc) => nameSection(doc, `Section ${(doc.ui?.form?.groups?.length ?? 0) + 1}`));
  return html`<div class="form-panel" ...${drop}>
    ${!count && html`<p class="empty">The form of this workflow is empty. Drag the names of fields from nodes to here, or add them below. They are also what the
      command line, Python and the API call it with.</p>`}
    <${FormFields} isArranged=${true} />
    <${AddField} />
    <button class="button" onClick=${section}><${Icon} name="plus" />Section</button>
    <${Outputs} />
    ${name && html`<p class="form-link">For people who only need the form: <a href=${formPath(name)} target="_blank" rel="noopener">${formPath(name)}</a></p>`}
  </div>`;
}

/**
 * The page of a workflow's form alone.
 * @param {string} name
 */
function formPath(name) {
  return `/form/${encodeURIComponent(name)}`;
}

/** All fields that are not in the form yet. */
function AddField() {
  const { editor } = useTab();
  const specs = useAppState((state) => state.specs);
  const doc = useEditor((state) => state.doc);
  const fields = useMemo(() => Object.keys(doc.nodes).flatMap((id) => inputsOf(doc, specs, id)
    .filter((input) => !input.link_only && !isLink(doc.nodes[id].inputs[input.name]) && !declaredAs(doc, `${id}.${input.name}`))
    .map((input) => ({ address: `${id}.${input.name}`, text: `${titleOf(doc, specs, id)}: ${input.name}` }))), [doc, specs]);
  const add = (/** @type {any} */ event) => editor.edit("Add to the form", (old) => declare(old, event.target.value));
  return html`<select class="field form-add" aria-label="add a field" value="" onChange=${add}>
    <option value="">Add a field</option>
    ${fields.map(({ address, text }) => html`<option key=${address} value=${address}>${text}</option>`)}
  </select>`;
}

/** What the workflow gives as a function. */
function Outputs() {
  const { editor } = useTab();
  const specs = useAppState((state) => state.specs);
  const doc = useEditor((state) => state.doc);
  const [isOpen, setOpen] = useState(false);
  const add = (/** @type {any} */ event) => {
    const [id, place] = event.target.value.split("|");
    editor.edit("Declare an output", (old) => declareOutput(old, specs, id, Number(place)));
  };
  return html`<details class="form-outputs" open=${isOpen} onToggle=${(/** @type {any} */ event) => setOpen(event.currentTarget.open)}>
    <summary>Outputs (${Object.keys(doc.outputs ?? {}).length})</summary>
    ${outputsDeclared(doc, specs).map(({ name, node, port }) => html`<div key=${name} class="form-output">
      <code>${name}</code><span class="quiet">${titleOf(doc, specs, node)} · ${port}</span>
      <button class="button is-quiet is-icon" aria-label=${`take output ${name} away`} onClick=${() => editor.edit("Change outputs", (old) => undeclare(old, "outputs", name))}><${Icon} name="close" /></button>
    </div>`)}
    ${isOpen && html`<select class="field form-add" aria-label="add an output" value="" onChange=${add}>
      <option value="">Add an output</option>
      ${Object.keys(doc.nodes).flatMap((id) => outputsOf(doc, specs, id).map((output, place) => html`
        <option key=${`${id}|${place}`} value=${`${id}|${place}`}>${titleOf(doc, specs, id)}: ${output.name || output.port}</option>`))}
    </select>`}
  </details>`;
}
