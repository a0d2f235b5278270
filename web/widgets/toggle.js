/** Yes or no. */

import { html, useId } from "../vendor/flow.js";

/** @param {import("./index.js").FieldProps} props */
export function ToggleField({ input, value, onChange }) {
  const id = useId();
  return html`<label class="field-label" for=${id}>${input.name}</label>
    <span class="field-toggle nodrag"><input id=${id} type="checkbox" role="switch" checked=${Boolean(value)} onChange=${(/** @type {any} */ event) => onChange(event.target.checked)} />
    ${(value ? input.label_on : input.label_off) ?? ""}</span>`;
}
