/** A wire in the colour of what it brings. */

import { BaseEdge, getBezierPath, html, memo } from "../vendor/flow.js";
import { useNodeRun } from "../state/use.js";
import { PORT_REACH } from "./flow.js";
import { typeClass } from "./types.js";

/** A wire between two ports; React Flow ends it at the rim of their targets, so it is led on to their middles. */
export const Wire = memo(function Wire(/** @type {any} */ { sourceX, sourceY, targetX, targetY, sourcePosition, targetPosition, selected, data, target }) {
  const run = useNodeRun(target);
  const [path] = getBezierPath({ sourceX: sourceX - PORT_REACH, sourceY, targetX: targetX + PORT_REACH, targetY, sourcePosition, targetPosition });
  const names = ["wire", typeClass(data.type), selected && "is-selected", data.isWrong && "is-wrong", run?.state === "running" && "is-feeding"];
  return html`<${BaseEdge} path=${path} className=${names.filter(Boolean).join(" ")} interactionWidth=${18} />`;
});
