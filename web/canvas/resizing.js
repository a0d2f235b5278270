/** A node, note or group made wider or higher by its rim. */

import { withGroup, withNote, withUi } from "../graph/document.js";
import { follow } from "./pointer.js";

/** @import {Tab} from "../state/app.js" */
/** @import {Doc} from "../graph/types.js" */

const LEAST = { width: 140, height: 60 };

/**
 * Follows a press on a rim. What is seen changes as it moves; the step is one.
 * @param {Tab} tab
 * @param {PointerEvent} event
 * @param {HTMLElement} handle
 */
export function dragSize(tab, event, handle) {
  const { editor } = tab;
  const id = handle.dataset.resize ?? "";
  const before = editor.doc;
  let size = [0, 0];
  const box = /** @type {HTMLElement} */ (handle.parentElement).getBoundingClientRect();
  const from = tab.view.toFlow(box.left, box.top);
  const grip = { x: box.right - event.clientX, y: box.bottom - event.clientY };
  follow(event, {
    onMove(now) {
      const to = tab.view.toFlow(now.clientX + grip.x, now.clientY + grip.y);
      size = [Math.max(LEAST.width, Math.round(to.x - from.x)), Math.max(LEAST.height, Math.round(to.y - from.y))];
      editor.adjust((doc) => sizedDoc(doc, id, size[0], size[1]));
    },
    onEnd(now, isMoved) {
      if (!isMoved) return;
      editor.adjust((doc) => restored(doc, before, id));
      if (now) editor.edit("Resize", (doc) => sizedDoc(doc, id, size[0], size[1]));
    },
  });
}

/** A document with something as large as it was in another. @param {Doc} doc @param {Doc} before @param {string} id */
function restored(doc, before, id) {
  if (doc.nodes[id]) return withUi(doc, "sizes", id, before.ui?.sizes?.[id]);
  const note = before.ui?.notes?.[id];
  if (note && doc.ui?.notes?.[id]) return withNote(doc, id, { ...doc.ui.notes[id], size: note.size });
  const group = before.ui?.groups?.find((one) => one.id === id);
  return group ? withGroup(doc, group) : doc;
}

/** @param {Doc} doc @param {string} id @param {number} width @param {number} height @returns {Doc} */
function sizedDoc(doc, id, width, height) {
  if (doc.nodes[id]) return withUi(doc, "sizes", id, [width, doc.ui?.sizes?.[id]?.[1] ?? height]);
  const note = doc.ui?.notes?.[id];
  if (note) return withNote(doc, id, { ...note, size: [width, height] });
  const group = doc.ui?.groups?.find((one) => one.id === id);
  return group ? withGroup(doc, { ...group, bounding: [group.bounding[0], group.bounding[1], width, height] }) : doc;
}
