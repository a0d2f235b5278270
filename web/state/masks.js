/** Masks saved as ComfyUI saves them: a picture of the input folder that is transparent where it is masked. */

import { setValue } from "../graph/document.js";
import { call } from "../net/api.js";

/** @import {App} from "./app.js" */

/** @typedef {{type: string, subfolder: string, filename: string, url: string}} MaskedFile the picture that a node loads */

const FOLDER = "clipspace";

/**
 * Saves a mask and lets the node load it, as one step of undo -> false when it could not be saved.
 * @param {App} app
 * @param {{node: string, input: string, file: MaskedFile, mask: Blob}} made
 */
export async function saveMask(app, { node, input, file: { type, subfolder, filename }, mask }) {
  const form = new FormData();
  form.append("image", mask, `clipspace-mask-${Date.now()}.png`);
  form.append("type", "input");
  form.append("subfolder", FOLDER);
  form.append("original_ref", JSON.stringify({ type, subfolder, filename }));
  try {
    const { body } = await call("POST", "/upload/mask", { form });
    await app.loadSpecs();
    app.tab.editor.edit("Edit the mask", (doc) => setValue(doc, node, input, [body.subfolder, body.name].filter(Boolean).join("/")));
    app.announce("The mask is saved.");
    return true;
  } catch (error) {
    app.tellError(error, "The mask is not saved");
    return false;
  }
}
