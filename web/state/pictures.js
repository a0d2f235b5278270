/** What one does with pictures of runs: open their workflow, use them, copy them, delete them. */

import { freePlace } from "../graph/adding.js";
import { addNode, move, setValue } from "../graph/document.js";
import { shapeOf } from "../graph/geometry.js";
import { ApiError, call, get, post } from "../net/api.js";
import { upload } from "../net/uploads.js";
import { openPlaced } from "./opening.js";

/** @import {App} from "./app.js" */
/** @import {Doc, Specs} from "../graph/types.js" */
/** @import {FileView} from "./progress.js" */

/** @typedef {FileView & {run?: string, created?: string}} Picture a file of a run, as /v1/outputs has it or a node shows it */

const PICTURES = ["png", "jpg", "jpeg", "webp", "gif"];

/** True for what an `img` shows. @param {{format: string}} file */
export const isPicture = ({ format }) => PICTURES.includes(format);

/**
 * The address of a picture made smaller.
 * @param {Picture} file
 * @param {number} size of its longer side
 */
export const thumbnail = (file, size) => `${file.url}?format=webp&size=${size}`;

/**
 * The file with its run, which nodes do not tell.
 * @param {Picture} file
 * @returns {Promise<Picture>}
 */
export async function withRun(file) {
  if (file.run) return file;
  const { outputs } = await get("/v1/outputs", { search: file.filename, type: file.type, limit: 100 });
  return outputs.find((/** @type {Picture} */ one) => one.url === file.url) ?? file;
}

/**
 * Reads the workflow that made a picture: of its run, else what the file carries.
 * @param {Picture} file
 * @returns {Promise<{document: Doc, name: string}>}
 */
export async function workflowOf(file) {
  const { run, type, subfolder, filename } = await withRun(file);
  return post("/v1/open", run ? { run } : { file: { type, subfolder, filename } });
}

/**
 * Opens the workflow of a picture in a tab of its own.
 * @param {App} app
 * @param {Picture} file
 */
export async function openWorkflow(app, file) {
  app.show(null);
  const { run, type, subfolder, filename } = await withRun(file).catch(() => file);
  await openPlaced(app, run ? { run } : { file: { type, subfolder, filename } });
}

/**
 * Copies a picture to the input folder, and sets it in the node that is selected, or in a new one.
 * @param {App} app
 * @param {Picture} file
 */
export async function useAsInput(app, file) {
  try {
    const name = await upload(app, new File([await blobOf(file.url)], file.filename));
    const { editor, view } = app.tab;
    const target = editor.chosen.find((id) => pictureInput(app.specs, editor.doc, id));
    const [found, id] = target ? [editor.doc, target] : withLoader(app.specs, editor.doc, view.middle());
    editor.edit("Use a picture", () => setValue(found, id, pictureInput(app.specs, found, id) ?? "image", name));
    app.show(null);
    view.reveal(id);
    app.toast(target ? `${name} is set in the selected node.` : `${name} is in a new Load Image node.`);
  } catch (error) {
    app.tellError(error, "Not used");
  }
}

/**
 * Adds a node that loads a picture, near a place where no other is -> the document and its id.
 * @param {Specs} specs
 * @param {Doc} doc
 * @param {{x: number, y: number}} middle
 * @returns {[Doc, string]}
 */
function withLoader(specs, doc, middle) {
  const [found, id] = addNode(doc, "LoadImage", [0, 0]);
  const shape = shapeOf(found, specs, id);
  const { x, y } = freePlace(doc, specs, { x: Math.round(middle.x - shape.width / 2), y: Math.round(middle.y - shape.height / 2) }, shape);
  return [move(found, new Map([[id, [x, y]]])), id];
}

/**
 * The input of a node that takes a picture, if it has one.
 * @param {Specs} specs
 * @param {Doc} doc
 * @param {string} id
 */
function pictureInput(specs, doc, id) {
  return specs.nodes.get(doc.nodes[id]?.class_type)?.inputs.find(({ image_upload: isOne }) => isOne)?.name;
}

/**
 * Puts a picture on the clipboard, without its workflow.
 * @param {App} app
 * @param {Picture} file
 */
export async function copyPicture(app, file) {
  try {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": blobOf(`${file.url}?format=png`) })]);
    app.toast(`${file.filename} is on the clipboard.`);
  } catch (error) {
    app.toast(`Not copied: ${error instanceof Error ? error.message : error}`, "error");
  }
}

/**
 * Deletes the run of a picture with its files -> the run, or null when it is still there.
 * @param {App} app
 * @param {Picture} file
 * @returns {Promise<string | null>}
 */
export async function deleteRun(app, file) {
  try {
    const { run } = await withRun(file);
    if (!run) throw new ApiError(404, "its run is not in the history");
    const { body } = await call("DELETE", `/v1/runs/${encodeURIComponent(run)}`, { query: { files: "true" } });
    app.toast(`The run is deleted, with ${body.files === 1 ? "1 file" : `${body.files} files`}.`);
    return run;
  } catch (error) {
    app.tellError(error, "Not deleted");
    return null;
  }
}

/** True when the caller may delete runs. @param {App} app */
export const mayDelete = (app) => app.store.getState().me.scope !== "run";

/** @param {string} url */
async function blobOf(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new ApiError(answer.status, "the file is not there any more");
  return answer.blob();
}
