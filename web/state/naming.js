/** What nodes are called where runs tell of them. */

import { shownNode } from "./shown.js";

/** @import {App} from "./app.js" */

/**
 * What a node of a run is called: as in the tab it came from, else as its type.
 * @param {App} app
 * @param {{client: string}} run
 * @param {string} node
 * @param {string} [type]
 */
export function nodeTitle(app, run, node, type = "") {
  const tab = app.tabs.get(run.client.replace(/^canvas:/, ""));
  const id = tab && shownNode(tab.editor.doc, node);
  const found = id ? tab.editor.doc.nodes[id] : undefined;
  const name = found?.class_type ?? type;
  return found?._meta?.title || app.specs.nodes.get(name)?.title || name || `node ${node}`;
}

/**
 * A reason as the engine gives it, with nodes by their titles in place of their ids.
 * @param {App} app
 * @param {{client: string}} run
 * @param {string} text
 */
export function withTitles(app, run, text) {
  return text.replace(/\bnode ([\w.:-]+)/g, (all, node) => {
    const title = nodeTitle(app, run, node);
    return title === all ? all : title;
  });
}
