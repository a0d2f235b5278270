/** What can be done with a picture: in the viewer, and as a menu of the gallery. */

import { Fragment, html, useState } from "../vendor/flow.js";
import { Icon } from "../icons.js";
import { useApp } from "../state/use.js";
import { copyPicture, deleteRun, isPicture, mayDelete, openWorkflow, useAsInput } from "../state/pictures.js";
import { Dialog } from "./Dialog.js";

/** @import {Picture} from "../state/pictures.js" */

/**
 * The actions, as buttons.
 * @param {{file: Picture, onCompare: () => void, onGone: (run: string) => void}} props `onGone`: its run was deleted
 */
export function PictureActions({ file, onCompare, onGone }) {
  const app = useApp();
  const remove = () => void deleteRun(app, file).then((run) => run && onGone(run));
  return html`<div class="viewer-actions">
    <button class="button is-primary" onClick=${() => openWorkflow(app, file)}><${Icon} name="graph" />Open workflow</button>
    ${isPicture(file) && html`<${Fragment}>
      <button class="button" onClick=${() => useAsInput(app, file)}><${Icon} name="picture" />Use as input</button>
      <button class="button" onClick=${onCompare}><${Icon} name="compare" />Compare with…</button>
      <button class="button" onClick=${() => copyPicture(app, file)}><${Icon} name="copy" />Copy picture</button><//>`}
    <a class="button" href=${file.url} download=${file.filename}><${Icon} name="download" />Download with workflow</a>
    <a class="button" href=${`${file.url}?metadata=false`} download=${file.filename}><${Icon} name="download" />Download without metadata</a>
    ${mayDelete(app) && html`<${Twice} label="Delete the run" asks="Delete it and its files?" onYes=${remove} />`}
  </div>`;
}

/**
 * The actions at a place of the page.
 * @param {{file: Picture, at: {x: number, y: number}, onGone: (run: string) => void, onClose: () => void}} props
 */
export function PictureMenu({ file, at, onGone, onClose }) {
  const app = useApp();
  const gone = (/** @type {string} */ run) => {
    onGone(run);
    onClose();
  };
  return html`<${Dialog} label=${`Actions of ${file.filename}`} className="picture-menu" at=${at} onClose=${onClose}>
    <${PictureActions} file=${file} onCompare=${() => app.show({ kind: "compare", one: file })} onGone=${gone} />
  <//>`;
}

/**
 * A button that asks before it does something; Escape and leaving it take that back.
 * @param {{label: string, asks: string, onYes: () => void}} props
 */
export function Twice({ label, asks, onYes }) {
  const [isAsking, setAsking] = useState(false);
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape" || !isAsking) return;
    event.preventDefault();
    setAsking(false);
  };
  const onClick = () => {
    if (isAsking) onYes();
    setAsking(!isAsking);
  };
  return html`<button class=${`button ${isAsking ? "is-wrong" : ""}`} aria-live="polite" onClick=${onClick} onBlur=${() => setAsking(false)} onKeyDown=${onKeyDown}>
    <${Icon} name="trash" />${isAsking ? asks : label}</button>`;
}
