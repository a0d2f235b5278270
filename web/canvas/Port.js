/** A port: where wires begin and end. */

import { Handle, Position, html } from "../vendor/flow.js";
import { typeClass } from "./types.js";

/** @import {PortPlace} from "../graph/geometry.js" */

/**
 * A port of a node. Its shape tells what it takes: a ring is optional, a square is a list.
 * @param {{port: PortPlace, isOptional?: boolean, isList?: boolean, isQuiet?: boolean, isWrong?: boolean, isLinked?: boolean}} props
 */
export function Port({ port, isOptional, isList, isQuiet, isWrong, isLinked }) {
  const isInput = port.type === "target";
  const names = ["port", typeClass(port.port), isOptional && !isLinked && "is-ring", isList && "is-list", isQuiet && !isLinked && "is-quiet", isWrong && "is-wrong"];
  const label = `${isInput ? "input" : "output"} ${port.name}, ${port.port}`;
  return html`<${Handle} type=${port.type} position=${isInput ? Position.Left : Position.Right} id=${port.id}
    className=${names.filter(Boolean).join(" ")} style=${{ top: `${port.y}px`, left: isInput ? `${port.x}px` : "auto", right: isInput ? "auto" : "0px" }}
    tabIndex=${0} role="button" aria-label=${label} title=${`${port.name} · ${port.port}`} data-port=${port.port} />`;
}
