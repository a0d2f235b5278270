/** A note on the canvas. */

import { html, memo } from "../vendor/flow.js";
import { withNote } from "../graph/document.js";
import { useTab } from "../state/use.js";
import { Title } from "./Title.js";

/** @import {NodeData} from "./flow.js" */

/** A note: a title and a text, both written in their places. */
export const NoteCard = memo(function NoteCard(/** @type {{id: string, data: NodeData, selected: boolean}} */ { id, data, selected }) {
  const { editor } = useTab();
  const note = /** @type {NonNullable<NodeData["note"]>} */ (data.note);
  const write = (/** @type {any} */ event) => editor.edit("Write a note", (doc) => withNote(doc, id, { ...note, text: event.target.value }), `note ${id}`);
  return html`<section class=${`note ${selected ? "is-selected" : ""}`} role="group" data-id=${id} aria-label=${note.title || "Note"}>
    <header class="note-header"><${Title} id=${id} title=${note.title || "Note"} /></header>
    <textarea class="note-text nodrag nopan nowheel" aria-label="text of the note" placeholder="Write a note" value=${note.text} onChange=${write} onBlur=${editor.rest}></textarea>
    <span class="resize-handle nodrag nopan" data-resize=${id} aria-hidden="true"></span>
  </section>`;
});
