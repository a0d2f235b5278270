/** What is wrong, by node. */

import { useAppState, useTab } from "../state/use.js";

/** @import {Problem} from "../graph/types.js" */

/** @type {Problem[]} */
const NONE = [];
/** @type {WeakMap<Problem[], Map<string, Problem[]>>} made once for each answer of the planner */
const indexed = new WeakMap();

/**
 * What is wrong with a node.
 * @param {string} id
 * @returns {Problem[]}
 */
export function useProblems(id) {
  const tab = useTab();
  return useAppState((state) => byNode(state.tabs.find((one) => one.id === tab.id)?.problems ?? NONE).get(id) ?? NONE);
}

/** @param {Problem[]} problems */
function byNode(problems) {
  const known = indexed.get(problems);
  if (known) return known;
  /** @type {Map<string, Problem[]>} */
  const found = new Map();
  for (const problem of problems) found.set(problem.node ?? "", [...(found.get(problem.node ?? "") ?? []), problem]);
  indexed.set(problems, found);
  return found;
}
