/** The name of a node, note or group, renamed in its place. */

import { html, useEffect, useRef, useState } from "../vendor/flow.js";
import { changeNode, withGroup, withNote } from "../graph/document.js";
import { useTab } from "../state/use.js";

/** @import {Doc} from "../graph/types.js" */

/**
 * A title; a double click makes it a field.
 * @param {{id: string, title: string, help?: string}} props
 */
export function Title({ id, title, help }) {
  const { editor } = useTab();
  const [isEdited, setEdited] = useState(false);
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  useEffect(() => field.current?.select(), [isEdited]);
  if (!isEdited) return html`<h3 class="node-title" title=${help} data-title=${id} onDoubleClick=${() => setEdited(true)}>${title}</h3>`;
  const end = (/** @type {string} */ text) => {
    setEdited(false);
    const name = text.trim();
    if (name !== title) editor.edit("Rename", (doc) => renamed(doc, id, name));
  };
  return html`<input ref=${field} class="node-title is-edited nodrag nopan" aria-label="name" defaultValue=${title} autoFocus
    onBlur=${(/** @type {any} */ event) => end(event.target.value)}
    onKeyDown=${(/** @type {KeyboardEvent & {target: HTMLInputElement}} */ event) => {
    event.stopPropagation();
    if (event.key === "Escape") event.target.value = title;
    if (event.key === "Escape" || event.key === "Enter") event.target.blur();
  }} />`;
}

/**
 * A document with another name for a node, note or group; "" gives a node the name of its type.
 * @param {Doc} doc
 * @param {string} id
 * @param {string} title
 */
function renamed(doc, id, title) {
  if (doc.nodes[id]) {
    const { title: _, ...rest } = doc.nodes[id]._meta ?? {};
    const meta = title ? { ...rest, title } : rest;
    return changeNode(doc, id, { _meta: Object.keys(meta).length ? meta : undefined });
  }
  const note = doc.ui?.notes?.[id];
  if (note) return withNote(doc, id, { ...note, title });
  const group = doc.ui?.groups?.find((one) => one.id === id);
  return group ? withGroup(doc, { ...group, title }) : doc;
}
