/** The zoom of a picture: smaller, how much it is, larger, all of it. */

import { html } from "../vendor/flow.js";
import { Icon } from "../icons.js";

/** @param {{zooming: import("./zooming.js").Zooming}} props */
export function ZoomButtons({ zooming }) {
  return html`<div class="zoom-bar" role="group" aria-label="Zoom">
    <button class="button is-icon" aria-label="zoom out" title="Zoom out (-)" onClick=${() => zooming.by(-1)}><${Icon} name="minus" /></button>
    <button class="button zoom-amount" title="100 % (1)" aria-label="zoom to 100 %" onClick=${() => zooming.to(1)}>${`${Math.round(zooming.place.zoom * 100)} %`}</button>
    <button class="button is-icon" aria-label="zoom in" title="Zoom in (+)" onClick=${() => zooming.by(1)}><${Icon} name="plus" /></button>
    <button class="button is-icon" aria-label="show all" aria-pressed=${zooming.isFit} title="Show all (0)" onClick=${zooming.fit}><${Icon} name="fit" /></button>
  </div>`;
}
