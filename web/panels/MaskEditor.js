/** The mask editor: paints the mask of a picture that a node loads. */

import { html, useRef, useState } from "../vendor/flow.js";
import { Icon } from "../icons.js";
import { saveMask } from "../state/masks.js";
import { useApp } from "../state/use.js";
import { FullDialog } from "./FullDialog.js";
import { MaskTools } from "./MaskTools.js";
import { ZoomButtons } from "./ZoomButtons.js";
import { useBrush } from "./brushing.js";
import { useMask } from "./masking.js";
import { styleOf, useZoom, zoomKey } from "./zooming.js";

/** @import {MaskedFile} from "../state/masks.js" */

const GROWTH = 1.2;

/** @typedef {{radius: number, hardness: number, erases: boolean, opacity: number}} Tools */

/**
 * The editor.
 * @param {{node: string, input: string, file: MaskedFile, onClose: () => void}} props
 */
export function MaskEditor({ node, input, file, onClose }) {
  const app = useApp();
  const stage = useRef(/** @type {HTMLDivElement | null} */ (null));
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const [tools, setTools] = useState(/** @type {Tools} */ ({ radius: 24, hardness: 0.8, erases: false, opacity: 0.65 }));
  const [isHeld, setHeld] = useState(false);
  const [isSaving, setSaving] = useState(false);
  const { size, error, steps, painter } = useMask(file.url, canvas);
  const zooming = useZoom(stage, size, { pans: (event) => isHeld || event.button === 1 || (event.buttons & 4) > 0 });
  const brush = useBrush({ stage, zooming, painter, tools, isHeld });
  const save = async () => {
    setSaving(true);
    if (await saveMask(app, { node, input, file, mask: await painter.file() })) onClose();
    else setSaving(false);
  };
  const [asksAt, setAsksAt] = useState(0); // how many steps there were when it asked whether to leave them
  const isAsking = steps.past > 0 && asksAt === steps.past;
  const close = () => {
    if (!steps.past || isAsking) return onClose();
    setAsksAt(steps.past);
    app.announce("The mask is not saved. Once more closes without it.");
  };
  const onKey = (/** @type {KeyboardEvent} */ event) => {
    const ctrl = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (ctrl && (key === "y" || (key === "z" && event.shiftKey))) painter.redo();
    else if (ctrl && key === "z") painter.undo();
    else if (ctrl && key === "s") void save();
    else if (ctrl || event.altKey) return;
    else if (key === "i") painter.all((byte) => 255 - byte);
    else if (key === " " && !(/** @type {HTMLElement} */ (event.target).matches("button"))) setHeld(true);
    else if (!toolKey(key, setTools) && !zoomKey(zooming, event.key) && !brush.key(event)) return;
    event.preventDefault();
  };
  const style = styleOf(zooming.place, size);
  const { type, subfolder, filename } = file;
  const opaque = `/view?${new URLSearchParams({ filename, subfolder, type, channel: "rgb" })}`; // what is under transparent pixels too
  return html`<${FullDialog} title=${`Mask of ${filename}`} className="mask-editor" onClose=${close} onKey=${onKey} onKeyUp=${(/** @type {any} */ event) => event.key === " " && setHeld(false)}>
    <header class="full-bar">
      <h2 class="full-title">${`Mask of ${filename}`}</h2>
      <span class="full-space"></span>
      <${ZoomButtons} zooming=${zooming} />
      <button class="button is-icon" aria-label="undo" title="Undo (Ctrl+Z)" disabled=${!steps.past} onClick=${painter.undo}><${Icon} name="undo" /></button>
      <button class="button is-icon" aria-label="redo" title="Redo (Ctrl+Shift+Z)" disabled=${!steps.future} onClick=${painter.redo}><${Icon} name="redo" /></button>
      <button class=${`button ${isAsking ? "is-wrong" : ""}`} onClick=${close}>${isAsking ? "Discard the mask?" : "Cancel"}</button>
      <button class="button is-primary" title="Save (Ctrl+S)" disabled=${isSaving || !size.width} onClick=${save}>Save mask</button>
    </header>
    <div class="full-body">
      <${MaskTools} tools=${tools} change=${(/** @type {Partial<Tools>} */ changes) => setTools((old) => ({ ...old, ...changes }))} painter=${painter} isEmpty=${steps.isEmpty} />
      <div class=${`full-stage mask-stage ${isHeld ? "is-panning" : ""}`} ref=${stage} tabIndex=${0} role="application" aria-label="mask: arrows move the brush, Enter paints" ...${brush.handlers}>
        ${error && html`<p class="empty viewer-player" role="alert">${error}</p>`}
        ${size.width > 0 && html`<img class="full-picture is-loaded" src=${opaque} alt=${filename} style=${style} draggable=${false} />`}
        <canvas class="mask-canvas" ref=${canvas} width=${size.width} height=${size.height} style=${{ ...style, opacity: tools.opacity }}></canvas>
        <span class="mask-brush" ref=${brush.cursor} hidden aria-hidden="true"></span>
      </div>
    </div>
  <//>`;
}

/**
 * What a key changes of the tools; false when it is not for them.
 * @param {string} key
 * @param {(change: (old: Tools) => Tools) => void} set
 */
function toolKey(key, set) {
  if (key === "[" || key === "]") set((old) => ({ ...old, radius: Math.min(512, Math.max(0.5, old.radius * (key === "]" ? GROWTH : 1 / GROWTH))) }));
  else if (key === "e" || key === "b") set((old) => ({ ...old, erases: key === "e" }));
  else return false;
  return true;
}
