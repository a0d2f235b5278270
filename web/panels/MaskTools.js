/** The tools of the mask editor. */

import { html } from "../vendor/flow.js";
import { Icon } from "../icons.js";

/** @import {Masking} from "./masking.js" */
/** @import {Tools} from "./MaskEditor.js" */

const SIZES = 100; // steps of the slider, evenly spread over a scale that grows with the size
const LARGEST = 512;

/** @param {{tools: Tools, change: (changes: Partial<Tools>) => void, painter: Masking["painter"], isEmpty: boolean}} props */
export function MaskTools({ tools, change, painter, isEmpty }) {
  const { radius, hardness, erases, opacity } = tools;
  const kinds = /** @type {const} */ ([[false, "Brush", "brush", "B"], [true, "Eraser", "eraser", "E"]]);
  return html`<div class="mask-tools" role="toolbar" aria-label="Mask tools" aria-orientation="vertical">
    <div class="mask-kinds" role="group" aria-label="Tool">${kinds.map(([kind, title, icon, key]) => html`
      <button key=${title} class="button" aria-pressed=${erases === kind} title=${`${title} (${key})`} onClick=${() => change({ erases: kind })}><${Icon} name=${icon} />${title}</button>`)}
    </div>
    <${Slider} name="Size" shown=${`${Math.round(2 * radius)} px`} value=${SIZES * Math.log(2 * radius) / Math.log(2 * LARGEST)} set=${(/** @type {number} */ value) => change({ radius: (2 * LARGEST) ** (value / SIZES) / 2 })} />
    <${Slider} name="Hardness" shown=${`${Math.round(hardness * 100)} %`} value=${hardness * 100} set=${(/** @type {number} */ value) => change({ hardness: value / 100 })} />
    <${Slider} name="Overlay" shown=${`${Math.round(opacity * 100)} %`} value=${opacity * 100} set=${(/** @type {number} */ value) => change({ opacity: value / 100 })} />
    <div class="mask-whole">
      <button class="button" onClick=${() => painter.all(() => 255)}>Fill</button>
      <button class="button" title="Invert (I)" onClick=${() => painter.all((byte) => 255 - byte)}>Invert</button>
      <button class="button" disabled=${isEmpty} onClick=${() => painter.all(() => 0)}>Clear</button>
    </div>
    <p class="quiet mask-help">What is painted is what a workflow may change. <kbd>[</kbd> <kbd>]</kbd> size, right button erases, <kbd>Space</kbd> or the middle button moves.</p>
  </div>`;
}

/** @param {{name: string, shown: string, value: number, set: (value: number) => void}} props */
function Slider({ name, shown, value, set }) {
  return html`<label class="mask-slider"><span>${name}</span><output>${shown}</output>
    <input type="range" min=${0} max=${100} step="any" value=${value} aria-valuetext=${shown} onInput=${(/** @type {any} */ event) => set(Number(event.target.value))} /></label>`;
}
