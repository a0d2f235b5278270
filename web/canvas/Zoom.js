/** The buttons that zoom. */

import { html, useReactFlow, useStore } from "../vendor/flow.js";
import { Icon } from "../icons.js";

const HOW = { duration: 120 };

/** Smaller, the zoom in percent, larger, and all. */
export function ZoomButtons() {
  const flow = useReactFlow();
  const percent = useStore((state) => Math.round(state.transform[2] * 100));
  return html`<div class="zoom-buttons" role="group" aria-label="Zoom">
    <button class="zoom-button" aria-label="zoom out" title="Zoom out" onClick=${() => flow.zoomOut(HOW)}><${Icon} name="minus" /></button>
    <button class="zoom-button is-percent" aria-label=${`zoom is ${percent} %; set to 100 %`} title="Zoom to 100 % (1)" onClick=${() => flow.zoomTo(1, HOW)}>${percent} %</button>
    <button class="zoom-button" aria-label="zoom in" title="Zoom in" onClick=${() => flow.zoomIn(HOW)}><${Icon} name="plus" /></button>
    <button class="zoom-button" aria-label="show all" title="Show all (F)" onClick=${() => flow.fitView({ maxZoom: 1, padding: 0.1, ...HOW })}><${Icon} name="fit" /></button>
  </div>`;
}
