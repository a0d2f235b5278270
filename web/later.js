/** Parts of the page that its first picture does not need: they come when they are asked for, or when nothing else is to do. */

import { Suspense, html, lazy, useState } from "./vendor/flow.js";

const SHEET = "/web/style/later.css";
/** @type {(() => Promise<any>)[]} */
const later = [];
/** @type {Promise<void> | undefined} */
let dressed;

/**
 * A component of a module that is loaded when it is first drawn; until then it draws nothing.
 * @param {() => Promise<any>} load
 * @param {string} name
 * @returns {any}
 */
export function deferred(load, name) {
  /** @type {any} */
  let loaded = null;
  const ready = () => Promise.all([load(), sheet()]).then(([module]) => {
    loaded = module[name];
    return { default: loaded };
  });
  later.push(ready);
  const Later = lazy(ready);
  return function Deferred(/** @type {any} */ props) {
    const [Component] = useState(() => loaded ?? Later); // at once where it is there: keys that are typed next are its own
    return html`<${Suspense} fallback=${null}><${Component} ...${props} /><//>`;
  };
}

/** Loads them all, once the page is there and idle, so that nothing waits when it is asked for. */
export async function loadRest() {
  const idle = window.requestIdleCallback ?? ((/** @type {() => void} */ then) => window.setTimeout(then, 300));
  await new Promise((done) => idle(() => done(undefined)));
  await Promise.allSettled(later.map((load) => load()));
}

/** Their style, once. */
function sheet() {
  dressed ??= new Promise((done) => {
    const link = document.createElement("link");
    Object.assign(link, { rel: "stylesheet", href: SHEET, onload: () => done(), onerror: () => done() });
    document.head.append(link);
  });
  return dressed;
}
