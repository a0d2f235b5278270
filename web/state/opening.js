/** Files opened: pictures with a workflow in them, JSON of ours and of ComfyUI, and what the gallery lets go over the canvas. */

import { addNode, setValue } from "../graph/document.js";
import { ApiError, call, post } from "../net/api.js";
import { upload } from "../net/uploads.js";
import { openIn } from "./library.js";
import { LOOK } from "./shown.js";

/** @import {Doc, InputSpec, Spec} from "../graph/types.js" */
/** @import {App} from "./app.js" */

/** What a picture of the gallery carries when it is dragged: the JSON body of `POST /v1/open`. */
export const DRAGGED_OPENING = "application/x-nodegraph-open";
const FILES = ".json,.txt,.png,.webp,.jpg,.jpeg";
const LOADERS = ["LoadImage"];
const STEP = 40;

/** @typedef {{x: number, y: number}} Place in the document */

/**
 * Opens files, each in a tab of its own.
 * @param {App} app
 * @param {Iterable<File>} files
 * @param {Place} [at] where a picture without a workflow would go
 */
async function openFiles(app, files, at = app.tab.view.middle()) {
  for (const file of files) {
    const form = new FormData();
    form.append("file", file);
    try {
      opened(app, (await call("POST", "/v1/open", { form })).body);
    } catch (error) {
      if (error instanceof ApiError && error.status === 422 && file.type.startsWith("image/")) offer(app, file, error.message, at);
      else app.tellError(error, `"${file.name}" cannot be opened`);
    }
    at = { x: at.x + STEP, y: at.y + STEP };
  }
}

/**
 * Opens the workflow of something the server has.
 * @param {App} app
 * @param {{file?: {type: string, subfolder: string, filename: string}, run?: string, workflow?: string}} body of `POST /v1/open`
 */
export async function openPlaced(app, body) {
  await post("/v1/open", body).then((found) => opened(app, found)).catch((error) => app.tellError(error, "Not opened"));
}

/**
 * Asks for files, and opens them.
 * @param {App} app
 */
export function pickFiles(app) {
  const input = document.createElement("input");
  input.type = "file";
  input.multiple = true;
  input.accept = FILES;
  input.addEventListener("change", () => void openFiles(app, input.files ?? []));
  input.click();
}

/**
 * Opens what was dropped: what the gallery let go, a picture of this server, or files.
 * @param {App} app
 * @param {DataTransfer} dropped
 * @param {Place} at
 */
export async function openDropped(app, dropped, at) {
  const placed = dropped.getData(DRAGGED_OPENING);
  if (placed) return openPlaced(app, JSON.parse(placed));
  const file = placeOf(dropped.getData("text/uri-list"));
  return file ? openPlaced(app, { file }) : openFiles(app, [...dropped.files], at);
}

/**
 * True when what is dragged may be opened.
 * @param {DataTransfer | null} dragged
 */
export function isOpenable(dragged) {
  return [DRAGGED_OPENING, "Files", "text/uri-list"].some((type) => dragged?.types.includes(type));
}

/** @param {App} app @param {{document: Doc, name: string, notes: string[]}} found */
function opened(app, { document: doc, name, notes }) {
  const nodes = Object.fromEntries(Object.entries(doc.nodes).filter(([id]) => !id.startsWith(LOOK))); // which a partial run has
  openIn(app, { ...doc, nodes }, { name });
  app.announce(`Opened ${name} in a new tab.`);
  if (notes.length) app.toast(notes.length === 1 ? notes[0] : `${name}: ${notes.length} things are not as in A1111; a note on the canvas tells them.`);
}

/**
 * Offers to use a picture that has no workflow.
 * @param {App} app
 * @param {File} file
 * @param {string} why
 * @param {Place} at
 */
function offer(app, file, why, at) {
  const found = loaderOf(app);
  const action = found && { label: `Use it in a ${found.spec.title} node`, run: () => void load(app, file, found, at).catch((error) => app.tellError(error)) };
  app.toast(why, "note", action);
}

/**
 * @param {App} app
 * @returns {{spec: Spec, input: InputSpec} | undefined}
 */
function loaderOf(app) {
  const specs = [...LOADERS.map((name) => app.specs.nodes.get(name)), ...app.specs.nodes.values()];
  const found = specs.map((spec) => ({ spec, input: spec?.inputs.find((input) => input.image_upload) })).find(({ input }) => input);
  return /** @type {{spec: Spec, input: InputSpec} | undefined} */ (found);
}

/**
 * @param {App} app
 * @param {File} file
 * @param {{spec: Spec, input: InputSpec}} loader
 * @param {Place} at
 */
async function load(app, file, { spec, input }, at) {
  const { editor } = app.tab; // where it was dropped, whatever is in front when it is there
  const name = await upload(app, file);
  /** @type {string[]} */
  const added = [];
  editor.edit(`Add ${spec.title}`, (doc) => {
    const [found, id] = addNode(doc, spec.name, [Math.round(at.x), Math.round(at.y)]);
    added.push(id);
    return setValue(found, id, input.name, name);
  });
  editor.select(added);
  app.announce(`Added a ${spec.title} node with ${name}.`);
}

/** @param {string} address of a file of this server, as `/v1/files` has it */
function placeOf(address) {
  const [, type = "", path = ""] = URL.canParse(address) && new URL(address).origin === location.origin
    ? /^\/v1\/files\/(output|input|temp)\/(.+)$/.exec(new URL(address).pathname) ?? [] : [];
  if (/%(?![0-9a-f]{2})/i.test(path)) return null;
  const parts = path.split("/").map(decodeURIComponent);
  return type ? { type, subfolder: parts.slice(0, -1).join("/"), filename: parts.at(-1) ?? "" } : null;
}
