/** What takes a field of a node into the form: drag it there, or press it. */

import { html } from "../vendor/flow.js";
import { DRAGGED_FIELD, declare, declaredAs, undeclare } from "../graph/form.js";
import { useEditor, useTab } from "../state/use.js";
import { Icon } from "../icons.js";

/** A grip, while the form's panel is open. @param {{id: string, input: string}} props */
export function FormGrip({ id, input }) {
  const { editor } = useTab();
  const address = `${id}.${input}`;
  const name = useEditor((state) => declaredAs(state.doc, address));
  const toggle = () => editor.edit(name ? "Take out of the form" : "Add to the form", (doc) => (name ? undeclare(doc, "inputs", name) : declare(doc, address)));
  const onDragStart = (/** @type {DragEvent} */ event) => event.dataTransfer?.setData(DRAGGED_FIELD, address);
  return html`<button class=${`form-pin nodrag ${name ? "is-in" : ""}`} draggable="true" onDragStart=${onDragStart} onClick=${toggle} aria-pressed=${Boolean(name)}
    aria-label=${`${input} in the form`} title=${name ? `in the form as ${name}` : "drag into the form, or press"}><${Icon} name="form" /></button>`;
}
