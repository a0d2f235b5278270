/** A field of a node in its row. */

import { html, memo } from "../vendor/flow.js";
import { setValue } from "../graph/document.js";
import { isLink, valueOf } from "../graph/ports.js";
import { deferred } from "../later.js";
import { useApp, useAppState, useEditor, useTab } from "../state/use.js";
import { Field, LinkedField } from "../widgets/index.js";

const FormGrip = deferred(() => import("./FormGrip.js"), "FormGrip");

/** @import {InputSpec, Link, NodeDoc} from "../graph/types.js" */

/** The widget of an input; only its name where a wire brings the value. */
export const FieldRow = memo(function FieldRow(/** @type {{id: string, node: NodeDoc, input: InputSpec, height: number, problem: string}} */ { id, node, input, height, problem }) {
  const app = useApp();
  const { editor } = useTab();
  const isForm = useAppState((state) => state.right === "form");
  const given = node.inputs[input.name];
  const change = (/** @type {any} */ value, /** @type {{join?: boolean}} */ { join } = {}) => {
    editor.edit(`Change ${input.name}`, (doc) => setValue(doc, id, input.name, value), join ? `${id}.${input.name}` : "");
  };
  return html`<div class=${`field-row ${problem ? "is-wrong" : ""}`} data-input=${input.name} style=${{ height: `${height}px` }}>
    ${isForm && html`<${FormGrip} id=${id} input=${input.name} />`}
    ${isLink(given)
    ? html`<${Linked} input=${input} link=${given} />`
    : html`<${Field} app=${app} input=${input} node=${id} value=${valueOf(given)} problem=${problem} onChange=${change} onRest=${editor.rest} />`}
  </div>`;
});

/** @param {{input: InputSpec, link: Link}} props */
function Linked({ input, link: [id, output] }) {
  const { view } = useTab();
  const node = useEditor((state) => state.doc.nodes[id]);
  const type = useAppState((state) => state.specs.nodes.get(node?.class_type)?.title);
  const title = node?._meta?.title || type || node?.class_type || id;
  return html`<${LinkedField} input=${input} from=${`${title} · ${output}`} onShow=${() => view.reveal(id)} />`;
}
