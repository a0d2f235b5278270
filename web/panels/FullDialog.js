/** A dialog over the whole window, below what is said in toasts: keeps the focus while it is there, and gives it back. */

import { html, useEffect, useRef } from "../vendor/flow.js";
import { stopsIn } from "./focus.js";

/**
 * The dialog. Escape closes it; `onKey` gets the other keys that no control in it takes.
 * @param {{title: string, className: string, onClose: () => void, onKey?: (event: KeyboardEvent) => void, onKeyUp?: (event: KeyboardEvent) => void, children?: any}} props
 */
export function FullDialog({ title, className, onClose, onKey, onKeyUp, children }) {
  const ref = useRef(/** @type {HTMLDivElement | null} */ (null));
  useEffect(() => {
    const before = /** @type {HTMLElement | null} */ (document.activeElement);
    ref.current?.focus();
    return () => before?.focus();
  }, []);
  const onKeyDown = (/** @type {any} */ event) => {
    if (event.key === "Tab") keepInside(/** @type {HTMLElement} */ (ref.current), event);
    else if (event.key === "Escape" && !event.defaultPrevented) onClose();
    else if (!event.defaultPrevented && !event.target.matches("textarea, select, input:not([type=checkbox])")) onKey?.(event);
    event.stopPropagation();
  };
  return html`<div ref=${ref} class=${`full-dialog ${className}`} role="dialog" aria-modal="true" aria-label=${title} tabIndex=${-1}
    onKeyDown=${onKeyDown} onKeyUp=${onKeyUp}>${children}</div>`;
}

/** @param {HTMLElement} dialog @param {KeyboardEvent} event */
function keepInside(dialog, event) {
  const stops = stopsIn(dialog);
  const at = document.activeElement;
  if (at !== (event.shiftKey ? stops[0] : stops.at(-1)) && !(event.shiftKey && at === dialog)) return;
  event.preventDefault();
  (event.shiftKey ? stops.at(-1) : stops[0])?.focus();
}
