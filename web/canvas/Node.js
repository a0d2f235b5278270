/** A node: its header, its ports, its fields, and what came of it. */

import { html, memo } from "../vendor/flow.js";
import { setValue } from "../graph/document.js";
import { isLink, valueOf } from "../graph/ports.js";
import { useApp, useAppState, useEditor, useNodeRun, useTab } from "../state/use.js";
import { Field } from "../widgets/index.js";
import { Port } from "./Port.js";
import { NodeResults, NodeStatus } from "./NodeRun.js";
import { typeClass } from "./types.js";

/** @import {NodeDoc, Problem} from "../graph/types.js" */
/** @import {Shape} from "../graph/geometry.js" */

/** A node of the graph. */
export const GraphNode = memo(function GraphNode(/** @type {{id: string, data: {node: NodeDoc, shape: Shape}, selected: boolean}} */ { id, data, selected }) {
  const { node, shape } = data;
  const spec = useAppState((state) => state.specs.nodes.get(node.class_type));
  const isCollapsed = useEditor((state) => Boolean(state.doc.ui?.collapsed?.[id]));
  const color = useEditor((state) => state.doc.ui?.colors?.[id]);
  const state = useNodeRun(id)?.state;
  const problems = useProblems(id);
  const title = node._meta?.title ?? spec?.title ?? node.class_type;
  const names = ["node", selected && "is-selected", problems.length && "is-wrong", !spec && "is-unknown", isCollapsed && "is-collapsed", node.mode && `is-${node.mode}`, state && `is-${state}`];
  return html`<section class=${names.filter(Boolean).join(" ")} aria-label=${title} data-id=${id} style=${color ? { "--node-color": color } : undefined}>
    <header class="node-header">
      <span class=${`node-chip ${typeClass(shape.outputs[0]?.port ?? "*")}`} aria-hidden="true"></span>
      <h3 class="node-title" title=${spec?.doc ? spec.doc.split("\n")[0] : node.class_type}>${title}</h3>
      <${NodeStatus} id=${id} problems=${problems} mode=${node.mode} />
    </header>
    ${shape.ports.map((port) => html`<${NodePort} key=${port.id} id=${id} port=${port} node=${node} shape=${shape} problems=${problems} />`)}
    ${!isCollapsed && html`<${Rows} shape=${shape} />`}
    ${!isCollapsed && shape.fields.map(({ input, height }) => html`<${FieldRow} key=${input.name} id=${id} node=${node} input=${input} height=${height} problems=${problems} />`)}
    ${!isCollapsed && html`<${NodeResults} id=${id} />`}
  </section>`;
});

/** The names beside the sockets and outputs. @param {{shape: Shape}} props */
function Rows({ shape: { sockets, outputs } }) {
  const rows = Math.max(sockets.length, outputs.length);
  return html`<div class="node-ports">${Array.from({ length: rows }, (_, row) => html`<div class="port-row" key=${row}>
    <span>${sockets[row]?.name}</span><span>${outputs[row] && (outputs[row].name || outputs[row].port).toLowerCase()}</span>
  </div>`)}</div>`;
}

/** @param {any} props */
function NodePort({ port, node, shape, problems }) {
  const isInput = port.type === "target";
  const input = isInput && (shape.sockets.find((/** @type {any} */ item) => item.name === port.name) ?? shape.fields.find((/** @type {any} */ field) => field.input.name === port.name)?.input);
  const isField = isInput && !input.link_only;
  const isWrong = isInput && problems.some((/** @type {Problem} */ problem) => problem.input === port.name);
  const isList = isInput ? input.is_list : shape.outputs[Number(port.id.slice(4))].is_list;
  return html`<${Port} port=${port} isOptional=${isInput && !input.required} isList=${isList} isQuiet=${isField} isWrong=${isWrong} isLinked=${isInput && isLink(node.inputs[port.name])} />`;
}

/** A field in its row; only its name where a wire brings the value. @param {any} props */
function FieldRow({ id, node, input, height, problems }) {
  const app = useApp();
  const { editor } = useTab();
  const given = node.inputs[input.name];
  const isLinked = isLink(given);
  const isWrong = problems.some((/** @type {Problem} */ problem) => problem.input === input.name);
  const change = (/** @type {any} */ value, /** @type {{join?: boolean}} */ { join } = {}) => {
    editor.edit(`Change ${input.name}`, (doc) => setValue(doc, id, input.name, value), join ? `${id}.${input.name}` : "");
  };
  return html`<div class=${`field-row ${isWrong ? "is-wrong" : ""}`} style=${{ height: `${height}px` }} title=${input.tooltip ?? input.doc ?? ""}>
    ${isLinked
    ? html`<span class="field-label">${input.name}</span><span class="field-linked">linked</span>`
    : html`<${Field} app=${app} input=${input} node=${id} value=${valueOf(given)} onChange=${change} onRest=${editor.rest} />`}
  </div>`;
}

/**
 * What is wrong with a node.
 * @param {string} id
 * @returns {Problem[]}
 */
function useProblems(id) {
  const tab = useTab();
  return useAppState((state) => (state.tabs.find((one) => one.id === tab.id)?.problems ?? []).filter((problem) => problem.node === id));
}
