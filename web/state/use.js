/** Hooks: the app, the tab and the parts of their state that a component shows. */

import { createContext, shallow, useContext, useStoreWithEqualityFn } from "../vendor/flow.js";

/** @import {App, AppState, Tab} from "./app.js" */
/** @import {EditorState} from "./editor.js" */
/** @import {NodeRun, RunView} from "./progress.js" */

export const AppContext = createContext(/** @type {App} */ (/** @type {unknown} */ (null)));
export const TabContext = createContext(/** @type {Tab} */ (/** @type {unknown} */ (null)));

/** The app. */
export const useApp = () => useContext(AppContext);

/** The tab around. */
export const useTab = () => useContext(TabContext);

/**
 * A part of the app's state; drawn again when it changes, compared one level deep.
 * @template T
 * @param {(state: AppState) => T} select
 * @returns {T}
 */
export function useAppState(select) {
  return useStoreWithEqualityFn(useApp().store, select, shallow);
}

/**
 * A part of the state of the tab's editor.
 * @template T
 * @param {(state: EditorState) => T} select
 * @returns {T}
 */
export function useEditor(select) {
  return useStoreWithEqualityFn(useTab().editor.store, select, shallow);
}

/**
 * What the last run of the tab did with a node.
 * @param {string} id
 * @returns {NodeRun | undefined}
 */
export function useNodeRun(id) {
  const { client } = useTab();
  return useStoreWithEqualityFn(useApp().runs.views, (views) => views[client]?.nodes[id]);
}

/**
 * A part of the last run of the tab.
 * @template T
 * @param {(view: RunView | undefined) => T} select
 * @returns {T}
 */
export function useRun(select) {
  const { client } = useTab();
  return useStoreWithEqualityFn(useApp().runs.views, (views) => select(views[client]), shallow);
}
