/** Two pictures beside or over one another, and what their workflows differ in. */

import { html, useEffect, useRef, useState } from "../vendor/flow.js";
import { Icon } from "../icons.js";
import { useApp } from "../state/use.js";
import { Differences } from "./Differences.js";
import { FullDialog } from "./FullDialog.js";
import { PickGallery } from "./Gallery.js";
import { ZoomButtons } from "./ZoomButtons.js";
import { pointOf, styleOf, useZoom, zoomKey } from "./zooming.js";

/** @import {Size} from "../graph/zoom.js" */
/** @import {Overlay} from "../state/app.js" */
/** @import {Picture} from "../state/pictures.js" */

const FLICKER_MS = 700; // slower than three times a second, which may harm
const STEP = 0.02;
const MODES = /** @type {const} */ ([["slider", "Slider"], ["sides", "Side by side"], ["flicker", "Flicker"]]);

/**
 * The comparison; without `other` it asks for one first.
 * @param {{one: Picture, other?: Picture, back?: Overlay, onClose: () => void}} props `back`: what is shown when it closes
 */
export function Compare({ one, other: given, back, onClose }) {
  const app = useApp();
  const [other, setOther] = useState(given);
  const [isSwapped, setSwapped] = useState(false);
  const close = () => (back ? app.show(back) : onClose());
  if (!other) {
    return html`<${FullDialog} key="pick" title=${`Compare ${one.filename} with`} className="compare" onClose=${close}>
      <header class="full-bar"><h2 class="full-title">${`Compare ${one.filename} with`}</h2><span class="full-space"></span><${Close} onClick=${close} /></header>
      <div class="compare-pick"><${PickGallery} onPick=${setOther} /></div>
    <//>`;
  }
  const [left, right] = isSwapped ? [other, one] : [one, other];
  return html`<${Both} left=${left} right=${right} swap=${() => setSwapped(!isSwapped)} close=${close} />`;
}

/** @param {{left: Picture, right: Picture, swap: () => void, close: () => void}} props */
function Both({ left, right, swap, close }) {
  const [mode, setMode] = useState(/** @type {typeof MODES[number][0]} */ ("slider"));
  const [part, setPart] = useState(0.5);
  const [size, setSize] = useState(/** @type {Size} */ ({ width: 0, height: 0 }));
  const [isSecond, setSecond] = useFlicker(mode === "flicker");
  const stage = useRef(/** @type {HTMLDivElement | null} */ (null));
  const stages = useRef(/** @type {HTMLDivElement | null} */ (null));
  const zooming = useZoom(stage, size, { stages });
  const onKey = (/** @type {KeyboardEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const way = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key];
    if (way && mode === "slider") setPart((old) => Math.min(1, Math.max(0, old + way)));
    else if (event.key === " " && mode === "flicker") setSecond((old) => !old);
    else if (!zoomKey(zooming, event.key)) return;
    event.preventDefault();
  };
  const style = styleOf(zooming.place, size);
  const cut = zooming.room.width * part;
  const measure = (/** @type {any} */ { target }) => setSize({ width: target.naturalWidth, height: target.naturalHeight });
  const picture = (/** @type {Picture} */ file, /** @type {any} */ onLoad = undefined) => html`<img class="full-picture is-loaded" src=${file.url} alt=${file.filename} style=${style} draggable=${false} onLoad=${onLoad} />`;
  const isOver = mode !== "sides";
  return html`<${FullDialog} title="Compare pictures" className="compare" onClose=${close} onKey=${onKey}>
    <header class="full-bar">
      <h2 class="full-title">Compare</h2>
      <div class="view-switch" role="group" aria-label="How">${MODES.map(([id, title]) => html`<button key=${id} aria-pressed=${mode === id} onClick=${() => setMode(id)}>${title}</button>`)}</div>
      <button class="button" onClick=${swap}>Swap</button>
      <span class="full-space"></span>
      <${ZoomButtons} zooming=${zooming} />
      <${Close} onClick=${close} />
    </header>
    <div class="compare-stages" ref=${stages}>
      <div class="full-stage" ref=${stage} ...${zooming.handlers}>
        ${picture(left, measure)}
        ${isOver && html`<div class="compare-over" style=${mode === "slider" ? { clipPath: `inset(0 0 0 ${cut}px)` } : { visibility: isSecond ? "visible" : "hidden" }}>${picture(right)}</div>`}
        ${mode === "slider" && html`<${Handle} stage=${stage} part=${part} setPart=${setPart} />`}
        <span class="compare-label is-left">${mode === "flicker" && isSecond ? right.filename : left.filename}</span>
        ${mode === "slider" && html`<span class="compare-label is-right">${right.filename}</span>`}
      </div>
      ${!isOver && html`<div class="full-stage" ...${zooming.handlers}>${picture(right)}<span class="compare-label is-left">${right.filename}</span></div>`}
    </div>
    <${Differences} left=${left} right=${right} />
  <//>`;
}

/** The line between both, which is dragged. @param {{stage: import("../vendor/flow.js").RefObject<HTMLDivElement | null>, part: number, setPart: (part: number) => void}} props */
function Handle({ stage, part, setPart }) {
  const drag = (/** @type {any} */ event) => {
    event.stopPropagation();
    if (event.type === "pointerdown") event.currentTarget.setPointerCapture(event.pointerId);
    if (!event.currentTarget.hasPointerCapture(event.pointerId) || !stage.current) return;
    setPart(Math.min(1, Math.max(0, pointOf(stage.current, event).x / stage.current.clientWidth)));
  };
  return html`<div class="compare-handle" role="slider" tabIndex=${0} aria-label="where the second picture begins" aria-orientation="horizontal" aria-valuemin=${0} aria-valuemax=${100}
    aria-valuenow=${Math.round(part * 100)} style=${{ left: `${part * 100}%` }} onPointerDown=${drag} onPointerMove=${drag}><span class="compare-knob"><${Icon} name="compare" /></span></div>`;
}

/** @param {{onClick: () => void}} props */
function Close({ onClick }) {
  return html`<button class="button is-icon" aria-label="close" title="Close (Esc)" onClick=${onClick}><${Icon} name="close" /></button>`;
}

/** Which of two is seen, in turn; by Space alone where motion is not wanted. @param {boolean} isOn @returns {[boolean, (change: (old: boolean) => boolean) => void]} */
function useFlicker(isOn) {
  const [isSecond, setSecond] = useState(false);
  useEffect(() => {
    if (!isOn || matchMedia("(prefers-reduced-motion: reduce)").matches) return undefined;
    const timer = window.setInterval(() => setSecond((old) => !old), FLICKER_MS);
    return () => clearInterval(timer);
  }, [isOn]);
  return [isSecond, setSecond];
}
