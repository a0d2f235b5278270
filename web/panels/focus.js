/** Where the focus goes on the canvas. */

const FRAMES = 30; // for which a node may take to be drawn
const STOPS = "a[href], button:not(:disabled), input:not(:disabled), select:not(:disabled), textarea:not(:disabled), [tabindex='0']";

/**
 * Gives the focus to a node, note or group as soon as it is drawn.
 * @param {string} id
 * @param {string} [part] selector of something in it
 */
export function focusNode(id, part = "") {
  let frames = 0;
  const look = () => {
    const found = /** @type {HTMLElement | null} */ (document.querySelector(`.react-flow__node[data-id="${CSS.escape(id)}"] ${part}`));
    if (found) found.focus({ preventScroll: true });
    else if ((frames += 1) < FRAMES) requestAnimationFrame(look);
  };
  look();
}

/** Gives the focus to the bare canvas. */
export function focusCanvas() {
  /** @type {HTMLElement | null} */ (document.querySelector(".react-flow"))?.focus({ preventScroll: true });
}

/**
 * What can have the focus inside of an element, in the order of Tab.
 * @param {Element} element
 * @returns {HTMLElement[]}
 */
export function stopsIn(element) {
  return /** @type {HTMLElement[]} */ ([...element.querySelectorAll(STOPS)]).filter((stop) => stop.checkVisibility() && !stop.closest("[inert]"));
}
