/** What is around every widget: keys stay in it, and below it stands what is wrong. */

import { html } from "../vendor/flow.js";

/**
 * The box of a widget.
 * @param {{id: string, problem?: string, className?: string, onReset?: () => void, children?: any}} props
 *   `problem` is shown while the pointer or the focus is there; `onReset`: Delete brings the default back
 */
export function Box({ id, problem, className = "", onReset, children }) {
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Delete" || !onReset || event.altKey || event.ctrlKey) return;
    event.preventDefault();
    event.stopPropagation();
    onReset();
  };
  return html`<div class=${`field-box nodrag nokey ${className} ${problem ? "is-refused" : ""}`} onKeyDown=${onKeyDown}>
    ${children}
    ${problem && html`<p class="field-message" id=${messageOf(id)}>${problem}</p>`}
  </div>`;
}

/**
 * What names the message of a widget to screen readers.
 * @param {string} id
 * @param {string} [problem]
 */
export function saidOf(id, problem) {
  return { "aria-invalid": problem ? true : undefined, "aria-describedby": problem ? messageOf(id) : undefined };
}

/** @param {string} id */
const messageOf = (id) => `${id}-message`;
