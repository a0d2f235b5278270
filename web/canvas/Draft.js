/** The wire under the pointer. */

import { Position, ViewportPortal, getBezierPath, html, useZustand } from "../vendor/flow.js";
import { typeClass } from "./types.js";

/** @import {Draft} from "./wiring.js" */

/** Draws the wire that a gesture holds. @param {{store: import("../vendor/flow.js").StoreApi<{draft: Draft | null}>}} props */
export function DraftWire({ store }) {
  const draft = useZustand(store, (state) => state.draft);
  if (!draft) return null;
  const { fixed, loose, type, isFromOutput } = draft;
  const [source, target] = isFromOutput ? [fixed, loose] : [loose, fixed];
  const [path] = getBezierPath({
    sourceX: source.x, sourceY: source.y, targetX: target.x, targetY: target.y, sourcePosition: Position.Right, targetPosition: Position.Left,
  });
  return html`<${ViewportPortal}><svg class="draft" aria-hidden="true"><path class=${`wire ${typeClass(type)}`} d=${path} /><circle class=${typeClass(type)} cx=${loose.x} cy=${loose.y} r="4" /></svg><//>`;
}
