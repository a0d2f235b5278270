/** What is open when the page is: what was open last, or on the first visit a workflow that runs. */

import { get, workflowPath } from "../net/api.js";
import { EMPTY } from "../graph/document.js";

/** @import {App} from "./app.js" */

const FIRST = "text_to_image";

/**
 * Opens the first tab.
 * @param {App} app
 */
export async function openFirst(app) {
  const doc = await get(workflowPath(FIRST)).catch(() => EMPTY);
  app.openTab(doc, { name: doc.name || "Untitled" });
}
