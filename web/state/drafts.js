/** Drafts: all that is open is kept in this browser at once and on the server soon after, and nothing is overwritten. */

import { keyval, shallow } from "../vendor/flow.js";
import { ApiError, call, get } from "../net/api.js";
import { claim } from "./claims.js";
import { draftPath, hasChanges, isEmpty, isSafe, isSame, snapshot, verdict } from "./draft.js";

/** @import {App, Tab, TabState} from "./app.js" */
/** @import {DraftEntry, DraftRecord, Kept, ServerDraft, Snapshot} from "./draft.js" */
/** @import {Doc} from "../graph/types.js" */

const LOCAL_MS = 150;
const SERVER_MS = 1000;
const RETRY_MS = 3000;
export const RELOAD_MS = 800; // how long the page before may take to let go of its claims
const UNKNOWN_MOST = 3;
const CLOSED_MOST = 20;
const NAME_MOST = 200;
const CONTROLS = /[\x00-\x1f\x7f]/g; // which no name of a draft may have

/** Keeps what is open. One for each page. */
export class Drafts {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.place = keyval.createStore(`nodegraph ${app.store.getState().me.name}`, "drafts");
    /** @type {Map<string, Kept>} by tab */
    this.kept = new Map();
    /** @type {{state: TabState, kept: Kept}[]} the last tabs that were closed */
    this.closed = [];
    this.isFull = false;
  }

  /** Begins to keep the tabs that are open and all that will be. */
  begin() {
    this.follow();
    this.app.store.subscribe((now, before) => {
      if (now.tabs !== before.tabs) this.follow();
      if (now.isOnline && !before.isOnline) for (const kept of this.kept.values()) this.soon(kept);
    });
    this.app.follow((event) => void (event.type === "DraftsChanged" && this.told(event.id, event.revision)));
    window.addEventListener("pagehide", () => this.flush());
    document.addEventListener("visibilitychange", () => document.hidden && this.flush());
    window.addEventListener("beforeunload", (event) => {
      this.flush();
      if ([...this.kept.values()].some((kept) => !isSafe(kept))) event.preventDefault();
    });
  }

  /** Writes to this browser what it has not yet. */
  flush() {
    return Promise.all([...this.kept.values()].map((kept) => this.write(kept)));
  }

  /**
   * Brings a tab back that was closed in this window -> whether there was one.
   * @param {string} [id] else the one that was closed last
   */
  reopen(id) {
    const last = this.closed.findLast(({ state }) => !id || state.id === id);
    if (!last) return false;
    this.closed = this.closed.filter((one) => one !== last);
    const { doc, past, future } = last.kept.tab.editor.store.getState();
    const tab = this.app.openTab(doc, { ...last.state, problems: [], isChecked: false });
    tab.editor.store.setState({ past, future });
    this.amend(tab.id, { revision: last.kept.revision, known: last.kept.known, sent: last.kept.sent });
    return true;
  }

  /**
   * Opens a draft, mended with what the server has of it: as itself, or as a copy where another window has it.
   * @param {DraftRecord | undefined} record
   * @param {DraftEntry | undefined | null} entry what the server says of it; null when it was not asked
   * @param {boolean} [isCopy]
   */
  async open(record, entry, isCopy = false) {
    const isNewer = entry && entry.revision !== record?.revision;
    const theirs = isNewer ? await this.fetch(entry.id).catch(() => null) : null;
    const choice = !record ? "theirs" : theirs ? verdict(record, theirs.doc) : "mine";
    const source = choice === "mine" ? record : theirs;
    if (!source) return;
    const { id: own, name, workflow, base, shows, isDirty, doc } = source;
    const { id } = this.app.openTab(doc, { ...(!isCopy && { id: own }), name, workflow, base, ...(shows && { shows }), ...(isDirty && { saved: null }) });
    if (isCopy) return this.amend(id, isDirty ? { known: null } : {});
    const isLost = entry === undefined && source.revision > 0;
    this.amend(id, {
      revision: entry === undefined ? 0 : theirs?.revision ?? source.revision,
      ...(choice === "mine" && record && { sent: record.sent }), ...((!source.isKnown || isLost) && { known: null }),
    });
    if (choice === "both" && record) this.openCopy(record.doc, record.name);
  }

  /**
   * Opens a draft that is not open in this window: a copy of it where another window has it.
   * @param {DraftRecord | undefined} record
   * @param {DraftEntry | undefined} entry
   */
  async pick(record, entry) {
    const letGo = await claim(`draft ${record?.id ?? entry?.id}`);
    letGo?.();
    await this.open(record, entry, !letGo);
    if (!letGo) this.app.toast("This draft is open in another window. This is a copy of it.");
  }

  /** @param {string} id @returns {Promise<DraftRecord>} a draft of the server, as this browser keeps them */
  async fetch(id) {
    const { document: doc, base, ...rest } = await get(draftPath(id));
    return { ...rest, doc, base: base ?? "", shows: "graph", isDirty: true, isKnown: true, sent: [], closed: 0 };
  }

  /** All of this browser's drafts. @returns {Promise<DraftRecord[]>} */
  async records() {
    const entries = await keyval.entries(this.place);
    return entries.filter(([key]) => String(key).startsWith("draft:")).map(([, record]) => record);
  }

  /**
   * Forgets a draft, here and on the server.
   * @param {string} id
   * @param {number} revision
   */
  async forget(id, revision) {
    await keyval.del(`draft:${id}`, this.place);
    if (revision) await call("DELETE", draftPath(id)).catch((error) => void (error.status === 404 || this.app.tellError(error)));
  }

  /**
   * Opens a copy of a document that lost to another, and says so.
   * @param {Doc} doc
   * @param {string} name
   */
  openCopy(doc, name) {
    const tab = this.app.openTab(doc, { name: `${name} (copy)`, saved: null });
    this.amend(tab.id, { known: null });
    this.app.toast(`"${name}" was changed in another window, and is kept so. What you had here is now "${name} (copy)".`);
    return tab;
  }

  /** Sees which tabs are there, and what is known of them. */
  follow() {
    for (const state of this.app.store.getState().tabs) {
      const kept = this.kept.get(state.id);
      if (!kept) this.keep(state);
      else if (kept.state !== state) {
        kept.state = state;
        this.soon(kept);
      }
    }
    for (const kept of this.kept.values()) if (!this.app.tabs.has(kept.tab.id)) this.close(kept);
  }

  /** @param {TabState} state */
  keep(state) {
    const tab = /** @type {Tab} */ (this.app.tabs.get(state.id));
    /** @type {Kept} */
    const kept = {
      tab, state, revision: 0, sent: [], known: null, written: null, local: 0, remote: 0, isSending: false, refused: null, closed: 0, isGone: false,
      claim: claim(`draft ${state.id}`, RELOAD_MS),
      end: tab.editor.store.subscribe((now, before) => now.doc !== before.doc && this.soon(kept)),
    };
    kept.known = snapshot(kept);
    this.kept.set(state.id, kept);
    this.soon(kept);
  }

  /** @param {string} id @param {Partial<Kept>} changes what is known better than that it is new */
  amend(id, changes) {
    const kept = this.kept.get(id);
    if (kept) this.soon(Object.assign(kept, changes));
  }

  /** @param {Kept} kept whose tab is gone */
  close(kept) {
    this.kept.delete(kept.tab.id);
    kept.end();
    clearTimeout(kept.remote);
    kept.claim.then((letGo) => letGo?.());
    this.closed = [...this.closed.slice(1 - CLOSED_MOST), { state: kept.state, kept }];
    kept.closed = Date.now();
    if (!hasChanges(kept.state, kept.tab.editor.doc) || isEmpty(kept.tab.editor.doc)) {
      clearTimeout(kept.local);
      kept.isGone = true;
      return void this.forget(kept.tab.id, kept.revision).catch((error) => this.app.tellError(error));
    }
    void this.write(kept).then(() => this.send(kept));
  }

  /** True when its tab was closed and opened again: another one keeps it. @param {Kept} kept */
  isPast(kept) {
    return (this.kept.get(kept.tab.id) ?? kept) !== kept;
  }

  /** @param {Kept} kept */
  soon(kept) {
    kept.local ||= window.setTimeout(() => this.write(kept), LOCAL_MS);
    kept.remote ||= window.setTimeout(() => this.send(kept), SERVER_MS);
  }

  /** @param {Kept} kept */
  async write(kept) {
    clearTimeout(kept.local);
    kept.local = 0;
    if (kept.isGone || this.isPast(kept)) return;
    const now = snapshot(kept);
    /** @type {DraftRecord} */
    const record = {
      ...now, id: kept.tab.id, shows: kept.state.shows, isDirty: hasChanges(kept.state, now.doc), isKnown: isSame(now, kept.known),
      revision: kept.revision, sent: kept.sent, modified: new Date().toISOString(), closed: kept.closed,
    };
    if (kept.written && shallow({ ...record, modified: "" }, { ...kept.written, modified: "" })) return;
    try {
      await keyval.set(`draft:${kept.tab.id}`, record, this.place);
      kept.written = record;
    } catch {
      if (!this.isFull) this.app.toast("This browser has no room for drafts; they are kept on the server only.", "error");
      this.isFull = true;
    }
  }

  /** @param {Kept} kept */
  async send(kept) {
    clearTimeout(kept.remote);
    kept.remote = 0;
    const now = snapshot(kept);
    if (kept.isSending || kept.isGone || this.isPast(kept) || isSame(now, kept.known) || isSame(now, kept.refused)) return;
    kept.isSending = true;
    kept.sent = [...kept.sent.slice(1 - UNKNOWN_MOST), now.doc];
    await this.write(kept); // so that a page that dies here knows its own work when it finds it on the server
    let wait_ms = SERVER_MS;
    try {
      const json = { name: now.name.replace(CONTROLS, " ").slice(0, NAME_MOST), workflow: now.workflow, base: now.base || null, document: now.doc };
      /** @type {Record<string, string>} */
      const headers = kept.revision ? { "If-Match": `"${kept.revision}"` } : { "If-None-Match": "*" };
      const { body } = await call("PUT", draftPath(kept.tab.id), { json, headers });
      const heir = this.kept.get(kept.tab.id) ?? kept;
      Object.assign(heir, { revision: body.revision, known: now, ...(heir === kept && { sent: [] }) });
      await (kept.isGone && heir === kept ? this.forget(kept.tab.id, kept.revision) : this.write(heir));
    } catch (error) {
      wait_ms = await this.refused(kept, error, now);
    } finally {
      kept.isSending = false;
    }
    if (!isSame(snapshot(kept), kept.known)) kept.remote ||= window.setTimeout(() => this.send(kept), wait_ms);
  }

  /**
   * What to do when the server did not take a draft -> when to try again.
   * @param {Kept} kept
   * @param {unknown} error
   * @param {Snapshot} now what was sent; it is not sent again until it changes
   */
  async refused(kept, error, now) {
    if (!(error instanceof ApiError)) return RETRY_MS;
    if (error.status === 412) {
      await this.settle(kept).catch(() => {});
      return 0;
    }
    if (error.status < 400 || error.status >= 500 || error.status === 429) return RETRY_MS;
    const isNew = !kept.refused;
    kept.refused = now;
    if (isNew && error.status !== 403 && error.status !== 401) this.app.tellError(error, `The draft of "${kept.state.name}" is kept in this browser only`);
    return 0;
  }

  /** @param {Kept} kept whose draft the server has otherwise */
  async settle(kept) {
    const theirs = /** @type {ServerDraft | null} */ (await get(draftPath(kept.tab.id)).catch((error) => {
      if (error.status === 404) return null;
      throw error;
    }));
    const { doc, past, future } = kept.tab.editor.store.getState();
    if (!theirs) kept.revision = 0;
    else if (verdict({ doc, sent: kept.sent.slice(0, -1), isKnown: false }, theirs.document) === "mine") kept.revision = theirs.revision;
    else if (kept.closed) kept.refused = snapshot(kept); // both stay apart until it is opened again
    else {
      const { active } = this.app.store.getState();
      const copy = this.openCopy(doc, kept.state.name);
      copy.editor.store.setState({ past, future });
      if (active !== kept.tab.id) this.app.store.setState({ active });
      this.take(kept, theirs);
    }
  }

  /** @param {Kept} kept @param {ServerDraft} theirs which takes its place */
  take(kept, theirs) {
    kept.tab.editor.edit("Changed in another window", () => theirs.document);
    this.app.changeTab(kept.tab.id, { name: theirs.name || kept.state.name, workflow: theirs.workflow, base: theirs.base ?? "", saved: null });
    Object.assign(kept, { revision: theirs.revision, sent: [], known: snapshot(kept) });
  }

  /** @param {string} id @param {number | null} revision that somebody saved */
  async told(id, revision) {
    const kept = this.kept.get(id);
    if (!kept || !revision || revision <= kept.revision || kept.isSending || !isSame(snapshot(kept), kept.known)) return;
    const theirs = await get(draftPath(id)).catch(() => null);
    if (theirs && theirs.revision > kept.revision && !kept.isSending && isSame(snapshot(kept), kept.known)) this.take(kept, theirs);
  }
}
