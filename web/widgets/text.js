/** A text, of one line or of many; and values of any type, as JSON. */

import { html, useEffect, useRef, useState } from "../vendor/flow.js";
import { deferred } from "../later.js";
import { parse, stringify } from "../net/exact.js";
import { Box, saidOf } from "./box.js";
import { weighed } from "./weights.js";

const Embeddings = deferred(() => import("./embeddings.js"), "Embeddings");

/** @import {WidgetProps} from "./index.js" */

/** A field for text. @param {WidgetProps} props */
export function TextField(props) {
  return props.input.multiline ? html`<${Prompt} ...${props} />` : html`<${Line} ...${props} />`;
}

/** @param {WidgetProps} props */
function Line({ id, input, value, problem, onChange, onRest }) {
  const [text, setText] = useTyped(input, value, onChange);
  return html`<${Box} id=${id} problem=${problem}>
    <input id=${id} class="field" type="text" value=${text} spellCheck=${false} autoComplete="off" ...${saidOf(id, problem)}
      onChange=${(/** @type {any} */ event) => setText(event.target.value)} onBlur=${onRest} />
  <//>`;
}

/** @param {WidgetProps} props */
function Prompt({ id, input, label, value, problem, onChange, onRest }) {
  const [text, setText] = useTyped(input, value, onChange);
  const area = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const [caret, setCaret] = useState(-1);
  const onKeyDown = (/** @type {any} */ event) => {
    if (!(event.ctrlKey || event.metaKey) || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
    event.preventDefault();
    const { selectionStart, selectionEnd } = event.target;
    const change = weighed(event.target.value, selectionStart, selectionEnd, event.key === "ArrowUp" ? 1 : -1);
    if (change) replace(event.target, change);
  };
  const onSelect = (/** @type {any} */ event) => setCaret(event.target.selectionStart === event.target.selectionEnd ? event.target.selectionStart : -1);
  return html`<${Box} id=${id} problem=${problem} className="is-tall">
    <textarea ref=${area} id=${id} class="field field-text nowheel" placeholder=${label} value=${text} spellCheck=${false} ...${saidOf(id, problem)}
      onChange=${(/** @type {any} */ event) => setText(event.target.value)} onKeyDown=${onKeyDown} onSelect=${onSelect}
      onBlur=${() => { setCaret(-1); onRest(); }}></textarea>
    ${area.current && caret >= 0 && html`<${Embeddings} area=${area.current} before=${text.slice(0, caret)} onTake=${replace} />`}
  <//>`;
}

/**
 * Puts text in place of a part of a field, as if it were typed: the browser's own undo knows of it.
 * @param {HTMLTextAreaElement} area
 * @param {{from: number, to: number, insert: string, start: number, end: number}} change
 */
function replace(area, { from, to, insert, start, end }) {
  area.setSelectionRange(from, to);
  document.execCommand("insertText", false, insert);
  area.setSelectionRange(start, end);
}

/**
 * The text of a field while it is typed: React Flow draws a node later than the key, which would move the caret.
 * @param {WidgetProps["input"]} input
 * @param {any} value
 * @param {WidgetProps["onChange"]} onChange
 * @returns {[string, (text: string) => void]}
 */
function useTyped(input, value, onChange) {
  const [text, setText] = useState(shown(input, value));
  const last = useRef(value);
  useEffect(() => {
    if (value === last.current) return;
    last.current = value;
    setText(shown(input, value));
  }, [input, value]);
  return [text, (/** @type {string} */ typed) => {
    setText(typed);
    last.current = meant(input, typed);
    onChange(last.current, { join: true });
  }];
}

/**
 * A value as text. Of an input of any type, texts that would be read as something else are quoted.
 * @param {WidgetProps["input"]} input
 * @param {any} value
 */
function shown(input, value) {
  if (value === undefined || value === null) return "";
  if (typeof value !== "string") return stringify(value);
  return isText(input) || meant(input, value) === value ? value : stringify(value);
}

/**
 * A text as a value: JSON where it is that and the input is not of text.
 * @param {WidgetProps["input"]} input
 * @param {string} text
 */
function meant(input, text) {
  if (isText(input)) return text;
  try {
    return parse(text);
  } catch {
    return text;
  }
}

/** @param {WidgetProps["input"]} input */
const isText = ({ port }) => port === "STRING" || port === "COMBO";
