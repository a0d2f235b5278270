/** A mask while it is painted: read from a picture, drawn over it, with its undo, saved as ComfyUI saves masks. */

import { useEffect, useMemo, useRef, useState } from "../vendor/flow.js";
import { emptyMask, everywhere, isEmpty, maskOf, patchOf, pixelsOf, put, stroke, union, wholeOf } from "../graph/mask.js";

/** @import {Brush, Mask, Patch, Rect} from "../graph/mask.js" */

const STEPS = 50;

/** @typedef {ReturnType<typeof useMask>} Masking */

/**
 * The mask of a picture, shown on a canvas of its size.
 * @param {string} url
 * @param {import("../vendor/flow.js").RefObject<HTMLCanvasElement | null>} canvas
 */
export function useMask(url, canvas) {
  const [size, setSize] = useState({ width: 0, height: 0 });
  const [error, setError] = useState("");
  const [steps, setSteps] = useState({ past: 0, future: 0, isEmpty: true });
  const painter = useMemo(() => createPainter(canvas, setSteps), [canvas]);
  const started = useRef("");
  useEffect(() => {
    started.current = url;
    readMask(url)
      .then((mask) => {
        if (started.current !== url) return;
        painter.start(mask);
        setSize({ width: mask.width, height: mask.height });
      })
      .catch(() => setError("This picture cannot be read."));
  }, [url, painter]);
  useEffect(() => painter.draw(), [size, painter]);
  return { size, error, steps, painter };
}

/**
 * Paints on a mask and draws it.
 * @param {import("../vendor/flow.js").RefObject<HTMLCanvasElement | null>} canvas
 * @param {(steps: {past: number, future: number, isEmpty: boolean}) => void} told after each step
 */
function createPainter(canvas, told) {
  let mask = emptyMask(0, 0);
  /** @type {Patch[]} */
  let past = [];
  /** @type {Patch[]} */
  let future = [];
  /** @type {{before: Uint8ClampedArray, rect: Rect | null, at: {x: number, y: number}} | null} */
  let open = null;
  const tell = () => told({ past: past.length, future: future.length, isEmpty: isEmpty(mask) });

  /** @param {Rect} [rect] */
  function draw(rect = wholeOf(mask)) {
    const context = canvas.current?.getContext("2d");
    if (!context || !rect.width || !rect.height) return;
    context.putImageData(new ImageData(pixelsOf(mask, rect, colourOf(context.canvas)), rect.width, rect.height), rect.x, rect.y);
  }

  /** @param {Patch} patch */
  function keep(patch) {
    past = [...past.slice(1 - STEPS), patch];
    future = [];
    tell();
  }

  /** @param {Patch | undefined} patch @param {"before" | "after"} side */
  function show(patch, side) {
    if (!patch) return;
    put(mask, patch.rect, patch[side]);
    draw(patch.rect);
    tell();
  }

  return {
    draw,
    /** @param {Mask} found */
    start(found) {
      [mask, past, future, open] = [found, [], [], null];
      tell();
    },
    /** @param {{x: number, y: number}} point @param {Brush} brush */
    begin(point, brush) {
      open = { before: mask.bytes.slice(), rect: null, at: point };
      this.to(point, brush);
    },
    /** @param {{x: number, y: number}} point @param {Brush} brush */
    to(point, brush) {
      if (!open) return;
      const rect = stroke(mask, open.at, point, brush);
      open = { ...open, at: point, rect: union(open.rect, rect) };
      if (rect) draw(rect);
    },
    end() {
      if (open?.rect) keep(patchOf(mask, open.before, open.rect));
      open = null;
    },
    /** Takes back the stroke that is under way. */
    drop() {
      if (open) mask.bytes.set(open.before);
      open = null;
      draw();
    },
    /** @param {(byte: number) => number} change of every pixel */
    all(change) {
      keep(everywhere(mask, change));
      draw();
    },
    undo() {
      const patch = past.at(-1);
      past = past.slice(0, -1);
      if (patch) future = [...future, patch];
      show(patch, "before");
    },
    redo() {
      const patch = future.at(-1);
      future = future.slice(0, -1);
      if (patch) past = [...past, patch];
      show(patch, "after");
    },
    /** The mask as a PNG that is transparent where it is masked. @returns {Promise<Blob>} */
    file() {
      const target = new OffscreenCanvas(mask.width, mask.height);
      const context = /** @type {OffscreenCanvasRenderingContext2D} */ (target.getContext("2d"));
      context.putImageData(new ImageData(pixelsOf(mask, wholeOf(mask), null), mask.width, mask.height), 0, 0);
      return target.convertToBlob({ type: "image/png" });
    },
  };
}

/** The mask that a picture carries. @param {string} url @returns {Promise<Mask>} */
async function readMask(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${answer.status}`);
  const picture = await createImageBitmap(await answer.blob());
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (new OffscreenCanvas(picture.width, picture.height).getContext("2d", { willReadFrequently: true }));
  context.drawImage(picture, 0, 0);
  const { data, width, height } = context.getImageData(0, 0, picture.width, picture.height);
  picture.close();
  return maskOf(data, width, height);
}

/** The colour of masks, as numbers. @param {HTMLCanvasElement} canvas @returns {[number, number, number]} */
function colourOf(canvas) {
  const [, red, green, blue] = /^#(..)(..)(..)/.exec(getComputedStyle(canvas).getPropertyValue("--mask").trim()) ?? ["", "ff", "ff", "ff"];
  return [parseInt(red, 16), parseInt(green, 16), parseInt(blue, 16)];
}
