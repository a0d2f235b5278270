/** The pictures of all runs, page by page, the newest first; new ones come by themselves. */

import { useCallback, useEffect, useRef, useState } from "../vendor/flow.js";
import { get } from "../net/api.js";
import { useApp } from "../state/use.js";

/** @import {Picture} from "../state/pictures.js" */

const PAGE = 60;
const SOON_MS = 200;

/**
 * @typedef {object} Outputs
 * @property {Picture[]} files
 * @property {boolean} isOver all are there
 * @property {boolean} isRead the first page was read
 * @property {() => void} more reads the next page
 * @property {(run: string) => void} drop takes the files of a run out
 */

/** @typedef {{files: Picture[], next: string | null, isRead: boolean}} Pages */
/** @type {Pages} */
const NONE = { files: [], next: null, isRead: false };

/**
 * Reads the files of runs.
 * @param {string} search
 * @param {boolean} isAll also those of previews, which are not kept
 * @returns {Outputs}
 */
export function useOutputs(search, isAll) {
  const app = useApp();
  const [pages, setPages] = useState(NONE);
  const now = useRef({ pages, isReading: false, number: 0 });
  now.current.pages = pages;

  const read = useCallback(async (/** @type {string | null} */ cursor, /** @type {(old: Pages, found: any) => Pages} */ join) => {
    const mine = (now.current.number += 1);
    now.current.isReading = true;
    try {
      const found = await get("/v1/outputs", { search, type: isAll ? undefined : "output", limit: PAGE, cursor: cursor ?? undefined });
      if (mine === now.current.number) setPages((old) => join(old, found));
    } catch (error) {
      app.tellError(error, "The gallery cannot be read");
    } finally {
      if (mine === now.current.number) now.current.isReading = false;
    }
  }, [app, search, isAll]);

  useEffect(() => {
    const timer = window.setTimeout(() => void read(null, (_, found) => ({ files: found.outputs, next: found.next, isRead: true })), search ? SOON_MS : 0);
    return () => clearTimeout(timer);
  }, [read, search]);

  useEffect(() => {
    let timer = 0;
    const end = app.follow(({ type }) => {
      if (type !== "RunOver" && type !== "Saved") return;
      clearTimeout(timer);
      timer = window.setTimeout(() => void read(null, withNewest), SOON_MS);
    });
    return () => {
      clearTimeout(timer);
      end();
    };
  }, [app, read]);

  return {
    files: pages.files,
    isRead: pages.isRead,
    isOver: pages.isRead && pages.next === null,
    more: useCallback(() => {
      const { pages: { next }, isReading } = now.current;
      if (next !== null && !isReading) void read(next, (old, found) => ({ files: unique([...old.files, ...found.outputs]), next: found.next, isRead: true }));
    }, [read]),
    drop: useCallback((/** @type {string} */ run) => setPages((old) => ({ ...old, files: old.files.filter((file) => file.run !== run) })), []),
  };
}

/** The list with a first page that was read again; all anew when the two do not meet. @param {Pages} old @param {any} found @returns {Pages} */
function withNewest(old, found) {
  const known = new Set(old.files.map(({ url }) => url));
  const meets = found.next === null || found.outputs.some((/** @type {Picture} */ file) => known.has(file.url));
  if (!meets || !old.isRead) return { files: found.outputs, next: found.next, isRead: true };
  const same = new Map(old.files.map((file) => [`${file.url} ${file.run}`, file]));
  const fresh = found.outputs.map((/** @type {Picture} */ file) => same.get(`${file.url} ${file.run}`) ?? file);
  return { ...old, files: unique([...fresh, ...old.files]) };
}

/** Each file once, where it comes first. @param {Picture[]} files @returns {Picture[]} */
function unique(files) {
  return [...new Map(files.toReversed().map((file) => [file.url, file])).values()].reverse();
}
