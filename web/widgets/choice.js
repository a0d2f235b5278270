/** One of several. */

import { Fragment, html, useRef, useState } from "../vendor/flow.js";
import { deferred } from "../later.js";
import { useAppState } from "../state/use.js";
import { Box, saidOf } from "./box.js";
import { nearest, parted } from "./names.js";

const SearchList = deferred(() => import("./list.js"), "SearchList");

/** @import {InputSpec} from "../graph/types.js" */
/** @import {WidgetProps} from "./index.js" */

const FEW = 12;
const FOLDERS = /** @type {Record<string, string>} */ ({ input: "the input folder", output: "the output folder", workflows: "the library" });

/** A choice: of a few by the system's own list, of files and of many by one that can be searched. @param {WidgetProps} props */
export function ChoiceField(props) {
  const { input } = props;
  return !input.file && (input.choices?.length ?? 0) <= FEW ? html`<${Few} ...${props} />` : html`<${Many} ...${props} />`;
}

/** @param {WidgetProps} props */
function Few({ id, input, value, problem, onChange, onReset }) {
  const choices = input.choices ?? [];
  const why = missing(input, choices, value) || problem;
  return html`<${Box} id=${id} problem=${why} onReset=${onReset}>
    <select id=${id} class="field field-select" value=${value ?? ""} ...${saidOf(id, why)} onChange=${(/** @type {any} */ event) => onChange(event.target.value)}>
      ${!choices.includes(value) && html`<option value=${value ?? ""}>${value ?? "choose"}</option>`}
      ${choices.map((choice) => html`<option key=${choice} value=${choice}>${choice}</option>`)}
    </select>
  <//>`;
}

/** @param {WidgetProps} props */
function Many({ app, id, input, label, value, problem, onChange, onReset }) {
  const why = useMissing(input, value) || problem;
  return html`<${Box} id=${id} problem=${why} onReset=${onReset}>
    <${ChoiceButton} app=${app} id=${id} input=${input} label=${label} value=${value} problem=${why} onChange=${onChange} />
  <//>`;
}

/**
 * A button that says what is chosen, and opens the list of what can be.
 * @param {Pick<WidgetProps, "app" | "id" | "input" | "label" | "value" | "problem" | "onChange"> & {pictureOf?: (name: string) => string}} props
 */
export function ChoiceButton({ app, id, input, label, value, problem, onChange, pictureOf }) {
  const [isOpen, setOpen] = useState(false);
  const button = useRef(/** @type {HTMLButtonElement | null} */ (null));
  const names = useNames(input);
  const isMissing = missing(input, names, value) !== "";
  const open = () => {
    setOpen(true);
    if (input.file) app.loadSpecs().catch((error) => app.tellError(error, "The list may be old"));
  };
  const close = () => {
    setOpen(false);
    button.current?.focus();
  };
  const pick = (/** @type {string} */ name) => {
    close();
    onChange(name);
  };
  const [folder, name] = parted(String(value ?? ""));
  return html`<${Fragment}>
    <button ref=${button} id=${id} class="field field-choice" type="button" aria-haspopup="listbox" aria-expanded=${isOpen} aria-label=${`${label}: ${value ?? "none"}`} title=${value ?? "choose"}
      ...${saidOf(id, problem)} onClick=${open} onKeyDown=${(/** @type {KeyboardEvent} */ event) => event.key === "ArrowDown" && (event.preventDefault(), open())}>
      <span class="list-name"><span class="list-folder">${folder}</span>${name || "choose"}</span>
    </button>
    ${isOpen && button.current && html`<${SearchList} anchor=${button.current} label=${label} names=${names} picked=${value} pictureOf=${pictureOf} onPick=${pick} onClose=${close}>
      ${isMissing && html`<${Near} name=${String(value)} names=${names} onPick=${pick} />`}
    <//>`}
  <//>`;
}

/** @param {{name: string, names: readonly string[], onPick: (name: string) => void}} props */
function Near({ name, names, onPick }) {
  const near = nearest(name, names);
  if (!near.length) return null;
  return html`<p class="list-near">Near to “${parted(name)[1]}”:
    ${near.map((one) => html`<button key=${one} type="button" class="button" onClick=${() => onPick(one)}>${one}</button>`)}</p>`;
}

/**
 * Why a chosen value is wrong: it is not among what there is; "" when it is.
 * @param {InputSpec} input
 * @param {any} value
 */
export function useMissing(input, value) {
  return missing(input, useNames(input), value);
}

/** @param {InputSpec} input @returns {readonly string[]} */
function useNames(input) {
  const files = useAppState((state) => (input.file ? state.specs.files[input.file] : undefined));
  return input.choices ?? files ?? [];
}

/** @param {InputSpec} input @param {readonly string[]} names @param {any} value */
function missing(input, names, value) {
  if (value === undefined || value === null || value === "" || names.includes(value)) return "";
  if (!input.file) return near(`${value} is none of the choices`, value, names);
  if (/ \[\w+\]$|^([a-z]:)?[\\/]/i.test(String(value))) return "";
  return near(`not there: put it into ${FOLDERS[input.file] ?? `models/${input.file}`} or choose another`, value, names);
}

/** @param {string} what @param {any} value @param {readonly string[]} names */
function near(what, value, names) {
  const found = nearest(String(value), names, 1);
  return found.length ? `${what}; ${found[0]} is near` : what;
}
