/** A number. */

import { html, useId } from "../vendor/flow.js";

/** @param {import("./index.js").FieldProps} props */
export function NumberField({ input, value, onChange, onRest }) {
  const id = useId();
  return html`<label class="field-label" for=${id}>${input.name}</label>
    <input id=${id} class="field nodrag" type="number" value=${value ?? ""} min=${input.min} max=${input.max} step=${input.step ?? (input.port === "INT" ? 1 : "any")}
      onChange=${(/** @type {any} */ event) => event.target.value !== "" && onChange(Number(event.target.value), { join: true })} onBlur=${onRest} />`;
}
