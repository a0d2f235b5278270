/** Fields: the widget of each input of a node, by what its type says of it. */

import { html } from "../vendor/flow.js";
import { NumberField } from "./number.js";
import { ChoiceField } from "./choice.js";
import { TextField } from "./text.js";
import { ToggleField } from "./toggle.js";

/** @import {App} from "../state/app.js" */
/** @import {InputSpec} from "../graph/types.js" */

/**
 * @typedef {object} FieldProps what every widget is given
 * @property {App} app
 * @property {InputSpec} input
 * @property {string} node id of the node that has it
 * @property {any} value undefined where the document has none
 * @property {(value: any, how?: {join?: boolean}) => void} onChange `join`: more of the same is coming, as in typing
 * @property {() => void} onRest ends what is joined
 */

/**
 * The widget of an input, with its label.
 * @param {FieldProps} props
 */
export function Field(props) {
  return html`<${widgetOf(props.input)} ...${props} value=${props.value === undefined ? props.input.default : props.value} />`;
}

/** @param {InputSpec} input */
function widgetOf(input) {
  if (input.choices || input.file) return ChoiceField;
  if (input.port === "BOOLEAN") return ToggleField;
  if (input.port === "INT" || input.port === "FLOAT") return NumberField;
  return TextField;
}
