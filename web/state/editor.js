/** One open document: its state, its undo, and what is selected. */

import { createStore } from "../vendor/flow.js";

/** @import {Doc} from "../graph/types.js" */

const STEPS = 200;
const JOIN_MS = 600;

/**
 * @typedef {object} EditorState
 * @property {Doc} doc
 * @property {{label: string, doc: Doc}[]} past
 * @property {{label: string, doc: Doc}[]} future
 * @property {ReadonlySet<string>} selection ids of nodes, notes, groups, and wires as `to.input`
 *
 * @typedef {ReturnType<typeof createEditor>} Editor
 */

/**
 * An editor of a document. What is selected and where the view is are no steps of its undo; a gesture is one.
 * @param {Doc} doc
 */
export function createEditor(doc) {
  /** @type {EditorState} */
  const initial = { doc, past: [], future: [], selection: new Set() };
  const store = createStore(() => initial);
  let last = { join: "", at: 0 };

  /**
   * Changes the document as one step. Steps of the same `join` soon after one another are one, as in typing.
   * @param {string} label what was done, for undo's tooltip
   * @param {(doc: Doc) => Doc} change
   * @param {string} [join]
   */
  function edit(label, change, join = "") {
    const { doc: before, past } = store.getState();
    const after = change(before);
    if (after === before) return;
    const now = performance.now();
    const isSame = join !== "" && join === last.join && now - last.at < JOIN_MS && past.length > 0;
    last = { join, at: now };
    store.setState({ doc: after, past: isSame ? past : [...past.slice(1 - STEPS), { label, doc: before }], future: [] });
  }

  /**
   * Changes the document without a step: where the view is, what the server says of it.
   * @param {(doc: Doc) => Doc} change
   */
  function adjust(change) {
    store.setState(({ doc: before }) => ({ doc: change(before) }));
  }

  /** Ends the step of typing, so that the next key begins another. */
  function rest() {
    last = { join: "", at: 0 };
  }

  /** @param {"past" | "future"} from @param {"past" | "future"} to */
  function step(from, to) {
    const state = store.getState();
    const found = state[from].at(-1);
    if (!found) return "";
    rest();
    const selection = new Set([...state.selection].filter((id) => isThere(found.doc, id)));
    const other = [...state[to], { label: found.label, doc: state.doc }];
    const doc = { ...found.doc, ...(state.doc.ui && { ui: { ...found.doc.ui, viewport: state.doc.ui.viewport } }) }; // the view is no step
    store.setState({ ...state, doc, [from]: state[from].slice(0, -1), [to]: other, selection });
    return found.label;
  }

  return {
    store,
    edit,
    adjust,
    rest,
    /** Takes the last step back -> its label, "" where there is none. */
    undo: () => step("past", "future"),
    /** Takes the last step that was undone again -> its label. */
    redo: () => step("future", "past"),
    /** @param {Iterable<string>} ids */
    select(ids) {
      const selection = new Set(ids);
      const old = store.getState().selection;
      if (selection.size !== old.size || [...selection].some((id) => !old.has(id))) store.setState({ selection });
    },
    /** The document as it is now. */
    get doc() {
      return store.getState().doc;
    },
    /** The ids of the nodes that are selected. */
    get chosen() {
      const { doc: now, selection } = store.getState();
      return [...selection].filter((id) => id in now.nodes);
    },
  };
}

/** @param {Doc} doc @param {string} id */
function isThere(doc, id) {
  return id in doc.nodes || id in (doc.ui?.notes ?? {}) || (doc.ui?.groups ?? []).some((group) => group.id === id);
}
