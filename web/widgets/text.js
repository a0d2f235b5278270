/** A text, of one line or of many. */

import { html, useId } from "../vendor/flow.js";

/** @param {import("./index.js").FieldProps} props */
export function TextField({ input, value, onChange, onRest }) {
  const id = useId();
  const text = typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value);
  const common = { id, value: text, spellCheck: false, onBlur: onRest, onChange: (/** @type {any} */ event) => onChange(event.target.value, { join: true }) };
  return input.multiline
    ? html`<label class="visually-hidden" for=${id}>${input.name}</label><textarea ...${common} class="field field-text nodrag nowheel" placeholder=${input.name}></textarea>`
    : html`<label class="field-label" for=${id}>${input.name}</label><input ...${common} class="field nodrag" type="text" />`;
}
