/** Parts of the page that its first picture does not need: they come when they are asked for, or when nothing else is to do. */

import { Suspense, html, lazy } from "./vendor/flow.js";

/** @type {(() => Promise<any>)[]} */
const later = [];

/**
 * A component of a module that is loaded when it is first drawn; until then it draws nothing.
 * @param {() => Promise<any>} load
 * @param {string} name
 * @returns {any}
 */
export function deferred(load, name) {
  later.push(load);
  const Component = lazy(() => load().then((module) => ({ default: module[name] })));
  return (/** @type {any} */ props) => html`<${Suspense} fallback=${null}><${Component} ...${props} /><//>`;
}

/** Loads them all, once the page is there and idle, so that nothing waits when it is asked for. */
export async function loadRest() {
  const idle = window.requestIdleCallback ?? ((/** @type {() => void} */ then) => window.setTimeout(then, 300));
  await new Promise((done) => idle(() => done(undefined)));
  await Promise.allSettled(later.map((load) => load()));
}
