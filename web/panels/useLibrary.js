/** What the library and the drafts hold, read again whenever they change. */

import { useCallback, useEffect, useState } from "../vendor/flow.js";
import { get } from "../net/api.js";
import { useApp, useAppState } from "../state/use.js";

/** @import {DraftEntry, DraftRecord} from "../state/draft.js" */
/** @import {WorkflowEntry} from "../state/library.js" */

/** The workflows of the library; null until they are read. @returns {WorkflowEntry[] | null} */
export function useWorkflows() {
  const [found, setFound] = useState(/** @type {WorkflowEntry[] | null} */ (null));
  useReading(useCallback(() => get("/v1/workflows").then(({ workflows }) => setFound(workflows)), []), "WorkflowsChanged");
  return found;
}

/** @typedef {{id: string, name: string, nodes: number, modified: string, record?: DraftRecord, entry?: DraftEntry}} DraftShown */

/** The drafts that are not open in this window, the newest first. @returns {{drafts: DraftShown[], read: () => Promise<any>}} */
export function useDrafts() {
  const app = useApp();
  const tabs = useAppState((state) => state.tabs.map((tab) => tab.id).join());
  const [found, setFound] = useState(/** @type {DraftShown[]} */ ([]));
  const read = useCallback(async () => {
    const [records, { drafts }] = await Promise.all([app.drafts.records(), get("/v1/drafts").catch(() => ({ drafts: [] }))]);
    setFound(joined(records, drafts));
  }, [app]);
  useReading(read, "DraftsChanged", tabs);
  return { drafts: found.filter(({ id }) => !app.tabs.has(id)), read };
}

/** @param {() => Promise<any>} read @param {string} event @param {string} [when] it is read again when this changes */
function useReading(read, event, when = "") {
  const app = useApp();
  const isOnline = useAppState((state) => state.isOnline);
  useEffect(() => {
    const again = () => void read().catch((error) => error.status && app.tellError(error));
    again();
    const end = app.follow(({ type }) => type === event && again());
    return () => void end();
  }, [app, read, event, when, isOnline]);
}

/** @param {DraftRecord[]} records of this browser @param {DraftEntry[]} entries of the server @returns {DraftShown[]} */
function joined(records, entries) {
  const found = new Map(entries.map((entry) => [entry.id, /** @type {DraftShown} */ ({ ...entry, entry })]));
  for (const record of records) {
    const nodes = Object.keys(record.doc.nodes).length;
    if (nodes && record.isDirty) found.set(record.id, { id: record.id, name: record.name, nodes, modified: record.modified, record, entry: found.get(record.id)?.entry });
  }
  return [...found.values()].sort((one, other) => Date.parse(other.modified) - Date.parse(one.modified));
}
