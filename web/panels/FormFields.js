/** The fields of a workflow's form, to be filled in, or besides to be arranged. */

import { html, useState } from "../vendor/flow.js";
import { DRAGGED_FIELD, changeDeclared, declare, formOf, moveDeclared, nameSection, setDeclared, undeclare } from "../graph/form.js";
import { shallow, useStoreWithEqualityFn } from "../vendor/flow.js";
import { useApp, useAppState, useEditor, useTab } from "../state/use.js";
import { Field } from "../widgets/index.js";
import { Icon } from "../icons.js";
import { sentence } from "../words.js";

/** @import {FormField, FormSection} from "../graph/form.js" */

const DRAGGED_NAME = "application/x-nodegraph-declared";

/**
 * The form of the tab around.
 * @param {{isArranged?: boolean}} props `isArranged`: fields can be moved, named and taken out
 */
export function FormFields({ isArranged = false }) {
  const specs = useAppState((state) => state.specs);
  const doc = useEditor((state) => state.doc);
  const sections = formOf(doc, specs);
  return html`<div class=${`form-fields ${isArranged ? "is-arranged" : ""}`}>
    ${sections.map((section) => html`<${Section} key=${section.title} section=${section} isArranged=${isArranged} />`)}
  </div>`;
}

/** @param {{section: FormSection, isArranged: boolean}} props */
function Section({ section: { title, fields }, isArranged }) {
  const { editor } = useTab();
  const drop = useDrop((name, address) => editor.edit("Arrange the form", (doc) => (
    moveDeclared(address ? declare(doc, address) : doc, name || Object.keys(declare(doc, address).inputs ?? {}).at(-1) || "", undefined, title)
  )));
  const rename = left((value) => editor.edit("Rename a section", (doc) => nameSection(doc, value, title)));
  return html`<fieldset class="form-section" ...${isArranged ? drop : {}}>
    ${title && (isArranged
    ? html`<legend><input class="field form-legend" aria-label="title of the section" defaultValue=${title} onBlur=${rename} /></legend>`
    : html`<legend>${title}</legend>`)}
    ${fields.map((field) => html`<${FormRow} key=${field.name} field=${field} isArranged=${isArranged} />`)}
    ${isArranged && !fields.length && html`<p class="empty">Drop fields here.</p>`}
  </fieldset>`;
}

/** @param {{field: FormField, isArranged: boolean}} props */
function FormRow({ field, isArranged }) {
  const app = useApp();
  const { editor } = useTab();
  const problem = useProblem(field.name);
  const drop = useDrop((name, address) => editor.edit("Arrange the form", (doc) => (
    address ? declare(doc, address, field.name) : moveDeclared(doc, name, field.name)
  )));
  const change = (/** @type {any} */ value, /** @type {{join?: boolean}} */ { join } = {}) => (
    editor.edit(`Change ${field.name}`, (doc) => setDeclared(doc, field.name, value), join ? `form ${field.name}` : "")
  );
  const body = field.input
    ? html`<div class=${`form-control ${field.input.multiline ? "is-tall" : ""}`}>
        <${Field} app=${app} input=${field.input} label=${field.label} node=${field.node} value=${field.value} onChange=${change} onRest=${editor.rest} />
      </div>`
    : html`<p class="quiet">${field.label}: a wire brings this value.</p>`;
  return html`<div class=${`form-row ${problem ? "is-wrong" : ""}`} data-name=${field.name} ...${isArranged ? drop : {}}>
    ${isArranged && html`<${Handles} field=${field} />`}
    ${body}
    ${problem && html`<p class="form-problem" role="alert">${problem}</p>`}
    ${field.doc && html`<p class="form-doc">${field.doc}</p>`}
  </div>`;
}

/** What arranges a field: a grip, its name, the way out. @param {{field: FormField}} props */
function Handles({ field }) {
  const { editor } = useTab();
  const [isOpen, setOpen] = useState(false);
  const move = (/** @type {-1 | 1} */ step) => editor.edit("Arrange the form", (doc) => {
    const names = formOf(doc, { nodes: new Map(), files: {}, failures: {} }).flatMap((section) => section.fields.map(({ name }) => name));
    const place = names.indexOf(field.name) + (step > 0 ? 2 : -1);
    return place < 0 || place > names.length ? doc : moveDeclared(doc, field.name, names[place]);
  });
  const change = (/** @type {any} */ changes) => editor.edit("Change the form", (doc) => changeDeclared(doc, field.name, changes));
  const onDragStart = (/** @type {DragEvent} */ event) => event.dataTransfer?.setData(DRAGGED_NAME, field.name);
  return html`<div class="form-handles">
    <span class="form-grip" draggable="true" onDragStart=${onDragStart} aria-hidden="true" title="drag to move">⋮⋮</span>
    <code class="form-name">${field.name}</code>
    <button class="button is-quiet is-icon" aria-label=${`move ${field.label} up`} onClick=${() => move(-1)}><${Icon} name="up" /></button>
    <button class="button is-quiet is-icon" aria-label=${`move ${field.label} down`} onClick=${() => move(1)}><${Icon} name="down" /></button>
    <button class="button is-quiet is-icon" aria-label=${`settings of ${field.label}`} aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)}><${Icon} name="more" /></button>
    <button class="button is-quiet is-icon" aria-label=${`take ${field.label} out of the form`} onClick=${() => editor.edit("Change the form", (doc) => undeclare(doc, "inputs", field.name))}><${Icon} name="close" /></button>
    ${isOpen && html`<div class="form-settings">
      <label>Name<input class="field" defaultValue=${field.name} onBlur=${left((value) => value && change({ name: value }))} /></label>
      <label>Label<input class="field" defaultValue=${field.label} onBlur=${left((value) => change({ title: value || undefined }))} /></label>
      <label>Help<input class="field" defaultValue=${field.doc} onBlur=${left((value) => change({ doc: value || undefined }))} /></label>
      <label class="form-check"><input type="checkbox" checked=${field.required} onChange=${(/** @type {any} */ event) => change({ required: event.target.checked || undefined })} />Must be given by who calls it</label>
    </div>`}
  </div>`;
}

/**
 * What a field does that is left: nothing, when it is as it was.
 * @param {(value: string) => void} take
 */
function left(take) {
  return (/** @type {any} */ { target }) => {
    if (target.value !== target.defaultValue) take(target.value.trim());
  };
}

/**
 * Takes fields that are dropped: of nodes (an address) or of the form (a name).
 * @param {(name: string, address: string) => void} take
 */
export function useDrop(take) {
  const [isOver, setOver] = useState(false);
  return {
    "data-over": isOver || undefined,
    onDragOver(/** @type {DragEvent} */ event) {
      const types = event.dataTransfer?.types ?? [];
      if (!types.includes(DRAGGED_FIELD) && !types.includes(DRAGGED_NAME)) return;
      event.preventDefault();
      event.stopPropagation();
      setOver(true);
    },
    onDragLeave: () => setOver(false),
    onDrop(/** @type {DragEvent} */ event) {
      const [name, address] = [event.dataTransfer?.getData(DRAGGED_NAME) ?? "", event.dataTransfer?.getData(DRAGGED_FIELD) ?? ""];
      setOver(false);
      if (!name && !address) return;
      event.preventDefault();
      event.stopPropagation();
      take(name, address);
    },
  };
}

/** What the planner says of a declared input. @param {string} name */
function useProblem(name) {
  const tab = useTab();
  const bind = useEditor((state) => state.doc.inputs?.[name]?.bind ?? []);
  return useStoreWithEqualityFn(useApp().store, (state) => {
    const problems = state.tabs.find((one) => one.id === tab.id)?.problems ?? [];
    const found = problems.find((problem) => problem.node && bind.includes(`${problem.node}.${problem.input}`));
    return found ? sentence(found) : "";
  }, shallow);
}
