/** Yes or no. */

import { html } from "../vendor/flow.js";
import { Box, saidOf } from "./box.js";

/** A switch. @param {import("./index.js").WidgetProps} props */
export function ToggleField({ id, input, value, problem, onChange, onReset }) {
  return html`<${Box} id=${id} problem=${problem} className="field-toggle" onReset=${onReset}>
    <label class="field-said" for=${id}>${(value ? input.label_on : input.label_off) ?? ""}</label>
    <input id=${id} class="field-switch" type="checkbox" role="switch" checked=${Boolean(value)} ...${saidOf(id, problem)} onChange=${(/** @type {any} */ event) => onChange(event.target.checked)} />
  <//>`;
}
