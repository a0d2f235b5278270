/** A number: drag to change it, click to type it. */

import { html, useEffect, useRef, useState } from "../vendor/flow.js";
import { Box, saidOf } from "./box.js";
import { limits, moved, partOf, read, stepped, stepsAcross } from "./numbers.js";

/** @import {WidgetProps} from "./index.js" */
/** @import {Num} from "./numbers.js" */

const THRESHOLD = 3; // pixels before a press is a drag
const PIXELS = 3; // of a drag to a step
const SHORT = 12; // digits that fit in full size beside the buttons of a seed

/**
 * A field for a number. What is typed and does not fit stays, with the reason, until it is mended or taken back with
 * Escape; the document keeps the value before. An empty field goes back to the default.
 * @param {WidgetProps & {children?: any, className?: string}} props
 */
export function NumberField({ app, id, input, label, value, problem, onChange, onRest, onReset, children, className = "" }) {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const { draft, why, setDraft, forget, write, commit, step } = useNumber(field, { app, input, label, value, onChange, onRest, onReset });
  const drag = useDrag(input, value, write);
  useWheel(field, step);
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    const hasControl = event.ctrlKey || event.metaKey;
    if (event.key === "Enter" || (hasControl && event.key.toLowerCase() === "s")) commit();
    if (event.key === "Enter" && !hasControl) {
      event.preventDefault(); // a form around is not sent
      field.current?.select();
    }
    if (event.key === "Escape" && draft !== null) {
      event.preventDefault(); // the focus stays
      event.stopPropagation();
      forget();
    }
    if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      event.preventDefault();
      step((event.key === "ArrowUp" ? 1 : -1) * (event.shiftKey ? 10 : 1), hasControl ? 0.1 : 1);
    }
  };
  const shown = drag.held ?? value ?? null;
  const part = shown === null ? null : partOf(input, shown);
  const told = why || (draft === null ? problem : "");
  const names = ["field field-number", input.display === "slider" && "is-slider", drag.held !== null && "is-dragged", String(shown ?? "").length > SHORT && "is-long"];
  return html`<${Box} id=${id} problem=${told} className=${className}>
    <input ref=${field} id=${id} class=${names.filter(Boolean).join(" ")} type="text" inputMode="decimal" autoComplete="off" spellCheck=${false}
      role="spinbutton" aria-valuenow=${Number(shown ?? 0)} aria-valuetext=${String(shown ?? "none")} ...${rangeOf(input)}
      ...${saidOf(id, told)} style=${part === null ? undefined : { "--part": `${part * 100}%` }} title=${limits(input)}
      value=${draft ?? String(shown ?? "")} onChange=${(/** @type {any} */ event) => setDraft(event.target.value)}
      onFocus=${(/** @type {any} */ event) => event.target.select()} onBlur=${commit} onKeyDown=${onKeyDown} ...${drag.on} />
    ${children}
  <//>`;
}

/**
 * What is typed into a field, and what is written of it.
 * @param {{current: HTMLInputElement | null}} field
 * @param {Pick<WidgetProps, "app" | "input" | "label" | "value" | "onChange" | "onRest" | "onReset">} props
 */
function useNumber(field, { app, input, label, value, onChange, onRest, onReset }) {
  const [draft, setDraft] = useState(/** @type {string | null} */ (null));
  const [why, setWhy] = useState("");
  const sent = useRef(value); // what was written last: the node is drawn again only later
  const forget = () => {
    setDraft(null);
    setWhy("");
  };
  const write = (/** @type {Num} */ found, /** @type {{join?: boolean}} */ how = {}) => {
    if (found !== sent.current) onChange(found, how);
    sent.current = found;
  };
  useEffect(() => {
    forget();
    sent.current = value;
    if (document.activeElement === field.current) field.current?.select();
  }, [value]);
  const commit = () => {
    onRest();
    if (draft === null) return;
    const found = draft.trim() === "" ? { value, why: undefined } : read(input, draft);
    if (draft.trim() === "") onReset();
    setWhy(found.why ?? "");
    if (found.why !== undefined) return app.announce(`${label}: ${found.why}`);
    if (found.value === value) setDraft(null);
    else write(found.value);
  };
  const step = (/** @type {number} */ steps, /** @type {number} */ fine) => {
    const from = (draft === null ? undefined : read(input, draft).value) ?? sent.current ?? 0;
    forget();
    write(stepped(input, from, steps, fine), { join: true });
  };
  return { draft, why, setDraft, forget, write, commit, step };
}

/**
 * Dragging a field: `held` is the value while it lasts, which is written once, when the pointer lets go.
 * @param {WidgetProps["input"]} input
 * @param {any} value
 * @param {(value: Num) => void} onChange
 */
function useDrag(input, value, onChange) {
  const [held, setHeld] = useState(/** @type {Num | null} */ (null));
  const drag = useRef({ at: 0, steps: 0, start: /** @type {Num} */ (0), isOn: false, isDrag: false, last: /** @type {Num} */ (0) });
  useEffect(() => setHeld(null), [value]);
  const end = () => {
    drag.current.isOn = false;
    setHeld(null);
  };
  const on = {
    onPointerDown(/** @type {any} */ event) {
      if (event.button !== 0 || document.activeElement === event.currentTarget) return;
      event.preventDefault();
      if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
      event.currentTarget.setPointerCapture(event.pointerId);
      drag.current = { at: event.clientX, steps: 0, start: value ?? input.min ?? 0, isOn: true, isDrag: false, last: value };
    },
    onPointerMove(/** @type {any} */ event) {
      const state = drag.current;
      if (!state.isOn || (!state.isDrag && Math.abs(event.clientX - state.at) < THRESHOLD)) return;
      state.isDrag = true;
      const pixels = input.display === "slider" ? event.currentTarget.getBoundingClientRect().width / stepsAcross(input) : PIXELS;
      const fine = event.ctrlKey || event.metaKey ? 0.1 : 1;
      state.steps += ((event.clientX - state.at) / pixels) * fine * (event.shiftKey ? 10 : 1);
      state.at = event.clientX;
      state.last = moved(input, state.start, state.steps, fine);
      setHeld(state.last);
    },
    onPointerUp(/** @type {any} */ event) {
      const { isOn, isDrag, last, start } = drag.current;
      drag.current.isOn = false;
      if (!isOn || last === start || !isDrag) setHeld(null);
      if (isOn && !isDrag) event.currentTarget.focus();
      if (isOn && isDrag) onChange(last);
    },
    onPointerCancel: end,
  };
  return { held, on };
}

/**
 * Lets the wheel step a field that has the focus; any other wheel is the canvas's or the page's.
 * @param {{current: HTMLInputElement | null}} field
 * @param {(steps: number, fine: number) => void} step
 */
function useWheel(field, step) {
  const latest = useRef(step);
  latest.current = step;
  useEffect(() => {
    const input = field.current;
    const onWheel = (/** @type {WheelEvent} */ event) => {
      if (document.activeElement !== input || event.ctrlKey || !event.deltaY) return;
      event.preventDefault();
      event.stopPropagation();
      latest.current((event.deltaY < 0 ? 1 : -1) * (event.shiftKey ? 10 : 1), 1);
    };
    input?.addEventListener("wheel", onWheel, { passive: false });
    return () => input?.removeEventListener("wheel", onWheel);
  }, [field]);
}

/** The limits for screen readers. @param {WidgetProps["input"]} input */
function rangeOf({ min, max }) {
  return { "aria-valuemin": min === undefined ? undefined : Number(min), "aria-valuemax": max === undefined ? undefined : Number(max) };
}
