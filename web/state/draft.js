/** What a draft is, and what is true of it. Pure. */

import { readsSame, sameWork } from "../graph/changes.js";

/** @import {Tab, TabState} from "./app.js" */
/** @import {Doc} from "../graph/types.js" */

/**
 * @typedef {{doc: Doc, name: string, workflow: string | null, base: string}} Snapshot
 *
 * @typedef {object} DraftRecord a draft as this browser keeps it
 * @property {string} id
 * @property {string} name
 * @property {string | null} workflow
 * @property {string} base
 * @property {TabState["shows"]} shows
 * @property {Doc} doc
 * @property {boolean} isDirty it has changes that are not in the library
 * @property {boolean} isKnown the server has it, or has no need of it
 * @property {number} revision of the server's; 0 when it has none
 * @property {Doc[]} sent documents that the server may have got, though it did not answer
 * @property {string} modified
 * @property {number} closed when its tab was closed; 0 while it is open
 *
 * @typedef {{id: string, name: string, workflow: string | null, base: string | null, revision: number, modified: string, nodes: number}} DraftEntry
 * @typedef {DraftEntry & {document: Doc}} ServerDraft
 *
 * @typedef {object} Kept a tab and what is kept of it
 * @property {Tab} tab
 * @property {TabState} state
 * @property {number} revision
 * @property {Doc[]} sent
 * @property {Snapshot | null} known what the server has, or what was opened and needs no keeping there
 * @property {DraftRecord | null} written what this browser has
 * @property {number} local timer
 * @property {number} remote timer
 * @property {boolean} isSending
 * @property {Snapshot | null} refused what the server did not take
 * @property {number} closed
 * @property {boolean} isGone closed, and nothing of it has to be kept
 * @property {Promise<(() => void) | null>} claim
 * @property {() => void} end
 */

/**
 * True when a tab has changes that are not in the library.
 * @param {TabState} state
 * @param {Doc} doc
 */
export function hasChanges(state, doc) {
  return !sameWork(state.saved, doc);
}

/**
 * Which of two versions of a draft stays: both do when each has work that the other has not.
 * @param {Pick<DraftRecord, "doc" | "sent" | "isKnown">} mine
 * @param {Doc} theirs
 * @returns {"mine" | "theirs" | "both"}
 */
export function verdict(mine, theirs) {
  if ([mine.doc, ...mine.sent].some((doc) => readsSame(doc, theirs))) return "mine";
  return mine.isKnown ? "theirs" : "both";
}

/**
 * True for a document with nothing on it.
 * @param {Doc} doc
 */
export function isEmpty(doc) {
  return !Object.keys(doc.nodes).length && !Object.keys(doc.ui?.notes ?? {}).length && !doc.ui?.groups?.length;
}

/**
 * A tab as it is now.
 * @param {Pick<Kept, "tab" | "state">} kept
 * @returns {Snapshot}
 */
export function snapshot({ tab, state: { name, workflow, base } }) {
  return { doc: tab.editor.doc, name, workflow, base };
}

/**
 * True when nothing but the view differs.
 * @param {Snapshot | null} one
 * @param {Snapshot | null} other
 */
export function isSame(one, other) {
  return one !== null && other !== null && one.name === other.name && one.workflow === other.workflow && one.base === other.base
    && sameWork(one.doc, other.doc);
}

/**
 * True when a tab may go: this browser or the server has all of it.
 * @param {Kept} kept
 */
export function isSafe(kept) {
  const now = snapshot(kept);
  return isSame(now, kept.known) || isSame(now, kept.written);
}

/**
 * The path of a draft on the server.
 * @param {string} id
 */
export function draftPath(id) {
  return `/v1/drafts/${encodeURIComponent(id)}`;
}
