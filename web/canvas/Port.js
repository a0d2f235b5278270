/** A port: where wires begin and end. */

import { html } from "../vendor/flow.js";
import { typeClass } from "./types.js";

/** @import {PortPlace} from "../graph/geometry.js" */

/**
 * A port of a node. Its shape tells what it takes: a ring is optional, a square is a list. What a press on it does is
 * told by wiring.js; React Flow's own handles would each follow its store.
 * @param {{node: string, port: PortPlace, isOptional?: boolean, isList?: boolean, isQuiet?: boolean, isWrong?: boolean}} props
 */
export function Port({ node, port, isOptional, isList, isQuiet, isWrong }) {
  const isInput = port.type === "target";
  const names = ["port nodrag nopan", port.type, typeClass(port.port), isOptional && "is-ring", isList && "is-list", isQuiet && "is-quiet", isWrong && "is-wrong"];
  const name = port.name || port.port;
  return html`<div class=${names.filter(Boolean).join(" ")} style=${{ top: `${port.y}px`, left: `${port.x}px` }}
    data-nodeid=${node} data-handleid=${port.id} data-handlepos=${isInput ? "left" : "right"}
    tabIndex=${0} role="button" aria-label=${`${isInput ? "input" : "output"} ${name}, ${port.port}`} title=${`${name} · ${port.port === "*" ? "any type" : port.port}`}></div>`;
}
