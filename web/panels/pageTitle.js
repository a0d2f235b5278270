/** The title and the icon of the page, which also say how far a run is while the page is not in front. */

const RADIUS = 13;
const STEP = 5; // percent: each ring is a picture that the browser has to read
const ROUND = 2 * Math.PI * RADIUS;

/**
 * Names the page after the workflow, and shows how far its run is.
 * @param {string} name
 * @param {number | null} percent null when nothing runs
 */
export function showTitle(name, percent) {
  document.title = percent === null ? `${name} · nodegraph` : `${percent}% · ${name}`;
  const icon = /** @type {HTMLLinkElement | null} */ (document.querySelector("link[rel=icon]"));
  if (!icon) return;
  icon.dataset.own ??= icon.href;
  const href = percent === null ? icon.dataset.own : `data:image/svg+xml,${encodeURIComponent(ring(STEP * Math.round(percent / STEP)))}`;
  if (icon.href !== href) icon.href = href;
}

/** @param {number} percent */
function ring(percent) {
  const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" fill="none" stroke-width="6">
    <circle cx="16" cy="16" r="${RADIUS}" stroke="gray" opacity=".4"/>
    <circle cx="16" cy="16" r="${RADIUS}" stroke="${accent}" stroke-dasharray="${(percent / 100) * ROUND} ${ROUND}" transform="rotate(-90 16 16)"/></svg>`;
}
