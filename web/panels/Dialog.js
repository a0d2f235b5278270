/** A dialog: it keeps the focus, closes with Escape or a press outside, and gives the focus back. */

import { html, useLayoutEffect, useRef } from "../vendor/flow.js";

/**
 * A dialog over the page; at a place, or in the middle.
 * @param {{label: string, className?: string, at?: {x: number, y: number} | null, onClose: () => void, children?: any}} props
 */
export function Dialog({ label, className = "", at, onClose, children }) {
  const ref = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useLayoutEffect(() => {
    const dialog = /** @type {HTMLDialogElement} */ (ref.current);
    dialog.showModal();
    return () => dialog.close();
  }, []);
  const place = at ? { "--x": `${at.x}px`, "--y": `${at.y}px` } : undefined;
  const leave = (/** @type {any} */ event) => {
    if (event.target !== ref.current) return;
    event.preventDefault();
    onClose();
  };
  const cancel = (/** @type {any} */ event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${ref} class=${`dialog ${at ? "is-placed" : ""} ${className}`} aria-label=${label} style=${place}
    onCancel=${cancel} onPointerDown=${leave} onContextMenu=${leave}>${children}</dialog>`;
}
