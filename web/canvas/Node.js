/** A node: its header, its ports, its fields, and what came of it. */

import { createContext, html, memo, useContext } from "../vendor/flow.js";
import { isLink } from "../graph/ports.js";
import { useRun } from "../state/use.js";
import { FieldRow } from "./FieldRow.js";
import { Port } from "./Port.js";
import { NodeResults, NodeStatus } from "./NodeRun.js";
import { Title } from "./Title.js";
import { useProblems } from "./problems.js";
import { sentence } from "../words.js";
import { typeClass } from "./types.js";

/** @import {InputSpec, NodeDoc, Problem} from "../graph/types.js" */
/** @import {Shape} from "../graph/geometry.js" */
/** @import {NodeData} from "./flow.js" */

/** True where all is so small that only headers and ports are worth drawing. */
export const FarContext = createContext(false);

/** A node of the graph. */
export const GraphNode = memo(function GraphNode(/** @type {{id: string, data: NodeData, selected: boolean}} */ { id, data, selected }) {
  const { spec, isCollapsed, color } = data;
  const node = /** @type {NodeDoc} */ (data.node);
  const shape = /** @type {Shape} */ (data.shape);
  const isFar = useContext(FarContext);
  const state = useRun((view) => view?.nodes[id]?.state);
  const problems = useProblems(id);
  const title = titleOf(data);
  const names = ["node", selected && "is-selected", problems.length && "is-wrong", !spec && "is-unknown", isCollapsed && "is-collapsed", color && "has-color", node.mode && `is-${node.mode}`, state && `is-${state}`];
  const isOpen = !isCollapsed && !isFar;
  return html`<section class=${names.filter(Boolean).join(" ")} role="group" aria-label=${title} data-id=${id} style=${{ minHeight: `${shape.height}px`, ...(color && { "--node-color": color }) }}>
    <header class="node-header">
      <span class=${`node-chip ${typeClass(shape.outputs[0]?.port ?? "*")}`} aria-hidden="true"></span>
      <${Title} id=${id} title=${title} help=${helpOf(data)} />
      <${NodeStatus} id=${id} problems=${problems} mode=${node.mode} />
    </header>
    ${portsOf(id, node, shape, problems, isFar)}
    ${isOpen && html`<${Rows} shape=${shape} />`}
    ${isOpen && shape.fields.map(({ input, height }) => html`<${FieldRow} key=${input.name} id=${id} node=${node} input=${input} height=${height} problem=${told(problems, input.name)} />`)}
    ${isFar && !isCollapsed && html`<div style=${{ height: `${shape.height - HEAD}px` }}></div>`}
    ${!isCollapsed && html`<${NodeResults} id=${id} />`}
    ${!isFar && html`<span class="resize-handle is-side nodrag nopan" data-resize=${id} aria-hidden="true"></span>`}
  </section>`;
});

const HEAD = 46; // what a header and the rims take of a node's height

/**
 * The name of a node: its own, or its type's.
 * @param {NodeData} data
 */
export function titleOf({ node, spec }) {
  return node?._meta?.title || spec?.title || node?.class_type || "";
}

/** @param {NodeData} data */
function helpOf({ node, spec }) {
  if (!spec) return `${node?.class_type} is not installed here. It is kept and saved as it is.`;
  return [spec.title === node?._meta?.title ? "" : `${spec.title} (${spec.name})`, spec.doc.split("\n\n")[0]].filter(Boolean).join("\n");
}

/** The names beside the sockets and outputs. @param {{shape: Shape}} props */
function Rows({ shape: { sockets, outputs } }) {
  const rows = Math.max(sockets.length, outputs.length);
  return html`<div class="node-ports">${Array.from({ length: rows }, (_, row) => html`<div class="port-row" key=${row}>
    <span>${sockets[row]?.name}</span><span>${outputs[row] && (outputs[row].name || outputs[row].port).toLowerCase()}</span>
  </div>`)}</div>`;
}

/**
 * The ports of a node; far away, those of fields without a wire are left out, since they are not seen.
 * @param {string} id
 * @param {NodeDoc} node
 * @param {Shape} shape
 * @param {Problem[]} problems
 * @param {boolean} isFar
 */
function portsOf(id, node, shape, problems, isFar) {
  const inputs = new Map([...shape.sockets, ...shape.fields.map(({ input }) => input)].map((input) => [input.name, input]));
  return shape.ports.map((port) => {
    if (port.type === "source") return html`<${Port} key=${port.id} node=${id} port=${port} isList=${shape.outputs[Number(port.id.slice(4))].is_list} />`;
    const input = /** @type {InputSpec} */ (inputs.get(port.name));
    const isLinked = isLink(node.inputs[port.name]);
    const isQuiet = !input.link_only && !isLinked;
    if (isFar && isQuiet) return null;
    return html`<${Port} key=${port.id} node=${id} port=${port} isOptional=${!input.required && !isLinked} isList=${input.is_list} isQuiet=${isQuiet} isWrong=${isAt(problems, port.name)} />`;
  });
}

/** @param {Problem[]} problems @param {string} name */
const isAt = (problems, name) => problems.some((problem) => problem.input === name);

/** What is wrong with an input, in words. @param {Problem[]} problems @param {string} name */
function told(problems, name) {
  return problems.filter((problem) => problem.input === name)
    .map(sentence).join("\n");
}
