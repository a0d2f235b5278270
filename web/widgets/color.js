/** A colour: as a number 0xRRGGBB, or as text `#rrggbb`. */

import { html } from "../vendor/flow.js";
import { Box, saidOf } from "./box.js";

/** A field for a colour. @param {import("./index.js").WidgetProps} props */
export function ColorField({ id, input, value, problem, onChange, onRest, onReset }) {
  const isNumber = input.port === "INT";
  const color = isNumber ? `#${Math.max(0, Number(value ?? 0)).toString(16).padStart(6, "0").slice(-6)}` : String(value ?? "#000000");
  const change = (/** @type {any} */ event) => onChange(isNumber ? parseInt(event.target.value.slice(1), 16) : event.target.value, { join: true });
  return html`<${Box} id=${id} problem=${problem} className="field-color" onReset=${onReset}>
    <span class="field-said">${color}</span>
    <input id=${id} type="color" value=${color} ...${saidOf(id, problem)} onChange=${change} onBlur=${onRest} />
  <//>`;
}
