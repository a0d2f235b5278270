/** Problems of a workflow: which node of the document each is about, and the way there. */

import { shownNode } from "./shown.js";

/** @import {App} from "./app.js" */
/** @import {Doc, Problem} from "../graph/types.js" */

const PATIENCE = 60; // frames until a node is drawn
const FIELDS = "input, select, textarea, button, [tabindex='0']";

/**
 * Shows the place of a problem in the graph, and goes to the field that it is about.
 * @param {App} app
 * @param {Problem} problem
 */
export function goTo(app, problem) {
  const { editor, view } = app.tab;
  const id = problem.node && shownNode(editor.doc, problem.node);
  if (!id) return;
  app.changeTab(app.tab.id, { shows: "graph" });
  view.reveal(id);
  focus(id, problem.input ?? "", PATIENCE);
}

/**
 * Shows the first problem of the tab in front.
 * @param {App} app
 */
export function goToFirst(app) {
  const [first] = inOrder(app.tab.editor.doc, app.tabState.problems);
  app.store.setState({ right: "problems" });
  if (first) goTo(app, first);
}

/**
 * Problems with those of a node beside one another: those of the whole workflow first, then as the graph is read.
 * @param {Doc} doc
 * @param {Problem[]} problems
 */
export function inOrder(doc, problems) {
  const place = (/** @type {Problem} */ problem) => {
    const id = problem.node && shownNode(doc, problem.node);
    const [x, y] = (id && doc.ui?.positions?.[id]) || [-Infinity, -Infinity];
    return { x, y, id: id ?? "" };
  };
  const places = new Map(problems.map((problem) => [problem, place(problem)]));
  const at = (/** @type {Problem} */ problem) => /** @type {ReturnType<typeof place>} */ (places.get(problem));
  return [...problems].sort((one, other) => {
    const [a, b] = [at(one), at(other)];
    if (a.x !== b.x) return a.x < b.x ? -1 : 1;
    if (a.y !== b.y) return a.y < b.y ? -1 : 1;
    return a.id.localeCompare(b.id);
  });
}

/** @param {string} id @param {string} input @param {number} frames */
function focus(id, input, frames) {
  const node = document.querySelector(`.react-flow__node[data-id="${CSS.escape(id)}"]`);
  if (!node) {
    if (frames) requestAnimationFrame(() => focus(id, input, frames - 1));
    return;
  }
  const row = node.querySelector(`[data-input="${CSS.escape(input)}"]`);
  const port = node.querySelector(`[data-handleid="${CSS.escape(`in:${input}`)}"]`);
  const found = row?.querySelector(FIELDS) ?? (port?.matches("[tabindex]") ? port : node);
  /** @type {HTMLElement} */ (found).focus({ preventScroll: true });
}
