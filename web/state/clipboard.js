/** Copy, cut, paste and duplicate: what is selected, as JSON on the system's clipboard; pictures into loaders. */

import { call } from "../net/api.js";
import { stringify } from "../net/exact.js";
import { upload } from "../net/uploads.js";
import { withNew } from "../graph/adding.js";
import { fragment, parsed, pasted } from "../graph/clipboard.js";
import { setValue } from "../graph/document.js";
import { GRID } from "../graph/geometry.js";
import { arrange } from "../graph/places.js";
import { removeChosen } from "../graph/wiring.js";
import { count } from "../words.js";

/** @import {App} from "./app.js" */
/** @import {Doc} from "../graph/types.js" */

const LOADER = "LoadImage";
const BESIDE = /** @type {[number, number]} */ ([2 * GRID, 2 * GRID]);

/**
 * What is selected as text for the clipboard; "" when nothing is.
 * @param {App} app
 */
export function copied(app) {
  const { doc, selection } = app.tab.editor.store.getState();
  const part = fragment(doc, selection);
  const number = sizeOf(part);
  if (!number) return "";
  app.announce(`Copied ${count(number, "item")}.`);
  return stringify(part, 2);
}

/**
 * Takes what is selected out, after it was copied.
 * @param {App} app
 */
export function cutChosen(app) {
  const { editor } = app.tab;
  editor.edit("Cut", (doc) => removeChosen(doc, app.specs, editor.store.getState().selection));
  editor.select([]);
}

/**
 * Puts a text of the clipboard into the tab in front: our documents, ComfyUI's, and what A1111 wrote.
 * @param {App} app
 * @param {string} text
 * @param {{isLinkedOutside?: boolean}} [how]
 * @returns {Promise<boolean>} false when it is no workflow
 */
export async function pasteText(app, text, { isLinkedOutside = false } = {}) {
  const found = parsed(text, app.specs, arrange(app.specs));
  if (!found) return false;
  if (found !== "foreign") return place(app, found, isLinkedOutside);
  const form = new FormData();
  form.append("file", new File([text], "pasted.json", { type: "application/json" }));
  try {
    const { body } = await call("POST", "/v1/open", { form });
    return place(app, /** @type {Doc} */ (parsed(stringify(body.document), app.specs, arrange(app.specs))), false);
  } catch (error) {
    app.tellError(error, "Not pasted");
    return true;
  }
}

/**
 * Puts a picture of the clipboard into the one selected node that takes one, else into a new loader.
 * @param {App} app
 * @param {File} file
 */
export async function pastePicture(app, file) {
  const { editor, view } = app.tab;
  try {
    const name = await upload(app, file);
    const [only, ...more] = editor.chosen;
    const input = only && !more.length ? app.specs.nodes.get(editor.doc.nodes[only].class_type)?.inputs.find((one) => one.image_upload) : undefined;
    if (input) {
      editor.edit(`Change ${input.name}`, (doc) => setValue(doc, only, input.name, name));
    } else {
      const at = spot(app);
      const [doc, id] = withNew(editor.doc, app.specs, LOADER, at ? view.toFlow(at.x, at.y) : view.middle());
      editor.edit("Paste a picture", () => setValue(doc, id, "image", name));
      editor.select([id]);
    }
    app.announce(`Pasted the picture ${name}.`);
  } catch (error) {
    app.tellError(error, "Not pasted");
  }
}

/**
 * Puts a copy of what is selected beside it, with the wires that come in.
 * @param {App} app
 */
export function duplicate(app) {
  const { editor } = app.tab;
  const part = fragment(editor.doc, editor.store.getState().selection);
  if (!sizeOf(part)) return app.announce("Select what to duplicate first.");
  const [doc, ids] = pasted(editor.doc, app.specs, part, { shift: BESIDE, isLinkedOutside: true });
  editor.edit("Duplicate", () => doc);
  editor.select(ids);
  app.announce(`Duplicated ${count(ids.length, "item")}.`);
}

/**
 * Copies, or cuts, by a button: the browser then sends its own event.
 * @param {"copy" | "cut"} how
 */
export function askToCopy(how) {
  requestAnimationFrame(() => document.execCommand(how)); // after the menu has given the focus back
}

/**
 * Pastes by a button, where the browser lets a page read the clipboard.
 * @param {App} app
 * @param {boolean} [isLinkedOutside]
 */
export async function askToPaste(app, isLinkedOutside = false) {
  const text = await navigator.clipboard?.readText().catch(() => undefined);
  if (text === undefined) return app.toast("The browser keeps the clipboard to itself: press Ctrl and V to paste.");
  if (!(await pasteText(app, text, { isLinkedOutside }))) app.toast("The clipboard holds no workflow.");
}

/**
 * The pointer, where it is over the bare canvas; else null.
 * @param {App} app
 */
export function spot({ pointer }) {
  const under = pointer && document.elementFromPoint(pointer.x, pointer.y);
  return under?.matches(".react-flow__pane, .react-flow") ? pointer : null;
}

/** @param {App} app @param {Doc} part @param {boolean} isLinkedOutside */
function place(app, part, isLinkedOutside) {
  const { editor, view } = app.tab;
  const at = spot(app);
  const isThere = Object.values(part.ui?.positions ?? {}).some(([x, y]) => Object.values(editor.doc.ui?.positions ?? {}).some(([left, top]) => left === x && top === y));
  const how = at ? { place: view.toFlow(at.x, at.y) } : { shift: isThere ? BESIDE : undefined };
  const [doc, ids] = pasted(editor.doc, app.specs, part, { ...how, isLinkedOutside });
  if (!ids.length) return true;
  editor.edit("Paste", () => doc);
  editor.select(ids);
  if (!at) view.fit(ids.length > 1 ? undefined : ids);
  app.announce(`Pasted ${count(ids.length, "item")}.`);
  return true;
}

/** @param {Doc} part */
function sizeOf({ nodes, ui }) {
  return Object.keys(nodes).length + Object.keys(ui?.notes ?? {}).length + (ui?.groups ?? []).length;
}
