/** A wire in the colour of what it brings. */

import { getBezierPath, html, memo } from "../vendor/flow.js";
import { useRun } from "../state/use.js";
import { PORT_REACH } from "./flow.js";
import { typeClass } from "./types.js";

const REACH = 18; // pixels in which a wire is met

/** A wire between two ports; React Flow ends it at the rim of their targets, so it is led on to their middles. */
export const Wire = memo(function Wire(/** @type {any} */ { sourceX, sourceY, targetX, targetY, sourcePosition, targetPosition, selected, data, target }) {
  const isFeeding = useRun((view) => view?.nodes[target]?.state === "running");
  const [path] = getBezierPath({ sourceX: sourceX - PORT_REACH, sourceY, targetX: targetX + PORT_REACH, targetY, sourcePosition, targetPosition });
  const names = ["react-flow__edge-path wire", typeClass(data.type), selected && "is-selected", data.why && "is-wrong", isFeeding && "is-feeding"];
  return html`<g>${data.why && html`<title>${data.why}</title>`}<path d=${path} fill="none" class=${names.filter(Boolean).join(" ")}></path>
    <path d=${path} fill="none" strokeOpacity="0" strokeWidth=${REACH} class="react-flow__edge-interaction"></path></g>`;
});
