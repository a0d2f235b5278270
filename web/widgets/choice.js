/** One of several. */

import { html, useId } from "../vendor/flow.js";
import { useAppState } from "../state/use.js";

/** @param {import("./index.js").FieldProps} props */
export function ChoiceField({ input, value, onChange }) {
  const id = useId();
  const files = useAppState((state) => (input.file ? state.specs.files[input.file] : undefined));
  const choices = input.choices ?? files ?? [];
  const isKnown = choices.includes(value);
  return html`<label class="field-label" for=${id}>${input.name}</label>
    <select id=${id} class="field nodrag" value=${value ?? ""} onChange=${(/** @type {any} */ event) => onChange(event.target.value)}>
      ${!isKnown && html`<option value=${value ?? ""}>${value ?? "choose"}</option>`}
      ${choices.map((choice) => html`<option key=${choice} value=${choice}>${choice}</option>`)}
    </select>`;
}
