/** A reroute: a dot on a wire, to lead it. */

import { html, memo } from "../vendor/flow.js";
import { Port } from "./Port.js";
import { typeClass } from "./types.js";

/** @import {NodeData} from "./flow.js" */

/** A reroute of the graph. Its middle is held to move it, its sides are its ports. */
export const Reroute = memo(function Reroute(/** @type {{id: string, data: NodeData, selected: boolean}} */ { id, data, selected }) {
  const { shape, node } = /** @type {Required<NodeData>} */ (data);
  const type = shape.outputs[0]?.port ?? "*";
  return html`<div class=${`reroute ${typeClass(type)} ${selected ? "is-selected" : ""}`} data-id=${id} role="group" aria-label=${node._meta?.title ?? "Reroute"} title=${`Reroute · ${type === "*" ? "any type" : type}`}>
    ${shape.ports.map((port) => html`<${Port} key=${port.id} node=${id} port=${{ ...port, port: type }} />`)}
    <span class="reroute-dot"></span>
  </div>`;
});
