/** Fields: the widget of each input of a node, by what its type says of it. */

import { Fragment, html, useId } from "../vendor/flow.js";
import { Icon } from "../icons.js";
import { deferred } from "../later.js";
import { ChoiceField } from "./choice.js";
import { ColorField } from "./color.js";
import { NumberField } from "./number.js";
import { isSeed, limits } from "./numbers.js";
import { SeedField } from "./seed.js";
import { TextField } from "./text.js";
import { ToggleField } from "./toggle.js";

const PictureField = deferred(() => import("./image.js"), "PictureField");

/** @import {App} from "../state/app.js" */
/** @import {InputSpec} from "../graph/types.js" */

/**
 * @typedef {object} FieldProps what a field is given
 * @property {App} app
 * @property {InputSpec} input
 * @property {string} node id of the node that has it
 * @property {any} value undefined where the document has none
 * @property {string} [label] the input's name unless given
 * @property {string} [problem] what is wrong with it, in words
 * @property {(value: any, how?: {join?: boolean}) => void} onChange undefined: back to the default; `join`: more of the
 *   same is coming, as in typing
 * @property {() => void} onRest ends what is joined
 *
 * @typedef {FieldProps & {id: string, label: string, onReset: () => void}} WidgetProps what its widget is given besides
 */

/**
 * The widget of an input, with its label.
 * @param {FieldProps} props
 */
export function Field(props) {
  const { input, label = input.name, onChange } = props;
  const id = useId();
  const reset = () => (input.required && input.default === undefined ? undefined : onChange(undefined));
  return html`<${Fragment}>
    <label class=${`field-label ${input.multiline ? "is-above" : ""}`} for=${id} title=${explained(input)} onDoubleClick=${reset}>${label}</label>
    <${widgetOf(input)} ...${props} id=${id} label=${label} value=${props.value === undefined ? input.default : props.value} onReset=${reset} />
  <//>`;
}

/**
 * A field whose value comes over a wire, and from where.
 * @param {{input: InputSpec, from: string, onShow: () => void}} props
 */
export function LinkedField({ input, from, onShow }) {
  return html`<${Fragment}>
    <span class="field-label" title=${explained(input)}>${input.name}</span>
    <button type="button" class="field-linked nodrag nokey" title=${`linked: the value comes from ${from}`} aria-label=${`${input.name} is linked from ${from}: show it`} onClick=${onShow}>
      <${Icon} name="link" /><span>${from}</span>
    </button>
  <//>`;
}

/**
 * What an input is, for a tooltip: its name, what it does, its limits and its default.
 * @param {InputSpec} input
 */
export function explained(input) {
  const range = limits(input);
  const isShort = input.default !== undefined && input.default !== null && String(input.default).length < 40 && input.default !== "";
  return [
    `${input.name} (${input.file ? `file of ${input.file}` : input.port})`, input.tooltip ?? input.doc, range && `${range}.`,
    isShort && `Default ${input.default}: double-click to go back to it.`,
  ].filter(Boolean).join("\n");
}

/** @param {InputSpec} input */
function widgetOf(input) {
  if (input.image_upload) return PictureField;
  if (input.choices || input.file) return ChoiceField;
  if (input.port === "BOOLEAN") return ToggleField;
  if (input.display === "color") return ColorField;
  if (isSeed(input)) return SeedField;
  if (input.port === "INT" || input.port === "FLOAT") return NumberField;
  return TextField;
}
