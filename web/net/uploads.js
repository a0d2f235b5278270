/** Pictures brought to the server. */

import { call } from "./api.js";

/** @import {App} from "../state/app.js" */

/**
 * Puts a picture into the input folder -> the name that inputs call it by. The list of files has it then.
 * @param {App} app
 * @param {File} file
 * @returns {Promise<string>}
 */
export async function upload(app, file) {
  const form = new FormData();
  form.append("file", file, file.name || "pasted.png");
  const { body } = await call("POST", "/v1/uploads", { form });
  await app.loadSpecs();
  return body.name;
}

/**
 * The first picture of what is dropped or pasted; null where there is none.
 * @param {DataTransfer | null} given
 * @returns {File | null}
 */
export function pictureIn(given) {
  return [...(given?.files ?? [])].find((file) => file.type.startsWith("image/")) ?? null;
}
