/** Whether two documents are the same work, and what one has that the other has not. Pure. */

import { shallow } from "../vendor/flow.js";

/** @import {Doc} from "./types.js" */

/**
 * True when nothing but the view differs. It compares what is shared, so it is quick; of two documents that were read
 * apart it knows only that they are not one.
 * @param {Doc | null} one
 * @param {Doc | null} other
 */
export function sameWork(one, other) {
  if (one === other) return true;
  if (!one || !other) return false;
  return shallow({ ...one, ui: null }, { ...other, ui: null })
    && shallow({ ...one.ui, viewport: null }, { ...other.ui, viewport: null });
}

/**
 * True when two documents read the same, whatever the order of their fields and wherever one looks at them.
 * @param {any} one
 * @param {any} other
 */
export function readsSame(one, other) {
  return text({ ...one, ui: { ...one?.ui, viewport: null } }) === text({ ...other, ui: { ...other?.ui, viewport: null } });
}

/**
 * How many nodes one document has that the other has not, and how many changed.
 * @param {Doc} before
 * @param {Doc} after
 */
export function countChanges(before, after) {
  const had = before.nodes ?? {};
  const has = after.nodes ?? {};
  const both = Object.keys(has).filter((id) => had[id]);
  return {
    added: Object.keys(has).length - both.length,
    removed: Object.keys(had).length - both.length,
    changed: both.filter((id) => text(had[id]) !== text(has[id])).length,
  };
}

/** @param {any} value JSON with the fields of each object in order */
function text(value) {
  return JSON.stringify(value, (_, item) => (
    item && typeof item === "object" && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([one], [other]) => (one < other ? -1 : 1)))
      : item
  ));
}
