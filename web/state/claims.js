/** Who works on what: a window claims what it has open, so that no other window of this browser writes it too. */

const ANSWER_MS = 150;

/** @type {Set<string>} */
const mine = new Set();
/** @type {BroadcastChannel | null} */
let channel = null;

/**
 * Claims a name for this window, until it is closed or lets go -> a function that lets go; null when another window
 * has it.
 * @param {string} name
 * @param {number} [patience_ms] how long to wait for it; a page that is reloaded lets go a moment later
 * @returns {Promise<(() => void) | null>}
 */
export async function claim(name, patience_ms = 0) {
  if (!navigator.locks) return ask(name); // the browser has locks on https and localhost only
  return new Promise((answer) => {
    const options = patience_ms ? { signal: AbortSignal.timeout(patience_ms) } : { ifAvailable: true };
    navigator.locks.request(`nodegraph ${name}`, options, (lock) => {
      if (!lock) return answer(null);
      return new Promise((release) => answer(() => release(null)));
    }).catch(() => answer(null));
  });
}

/**
 * Asks the other windows whether one of them has a name.
 * @param {string} name
 * @returns {Promise<(() => void) | null>}
 */
function ask(name) {
  if (!channel) {
    channel = new BroadcastChannel("nodegraph claims");
    channel.addEventListener("message", ({ data }) => {
      if (data.who && mine.has(data.who)) channel?.postMessage({ taken: data.who });
    });
  }
  const open = channel;
  return new Promise((answer) => {
    const hear = (/** @type {MessageEvent} */ { data }) => data.taken === name && end(true);
    const end = (/** @type {boolean} */ isTaken) => {
      clearTimeout(timer);
      open.removeEventListener("message", hear);
      if (isTaken) return answer(null);
      mine.add(name);
      answer(() => void mine.delete(name));
    };
    const timer = window.setTimeout(end, ANSWER_MS, mine.has(name));
    open.addEventListener("message", hear);
    open.postMessage({ who: name });
  });
}

/** A new id. (`crypto.randomUUID` is there on https and localhost only.) */
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
