/** Zoom and pan of a picture on its stage: by wheel, pinch, drag and keys. */

import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "../vendor/flow.js";
import { fitted, kept, zoomed } from "../graph/zoom.js";

/** @import {Place, Size} from "../graph/zoom.js" */

const STEP = 1.25;
const SWIPE = 60;

/**
 * @typedef {object} Zooming
 * @property {Place} place
 * @property {boolean} isFit it follows the size of the stage
 * @property {Size} room of the stage
 * @property {() => void} fit
 * @property {(zoom: number) => void} to zooms about the middle
 * @property {(steps: number) => void} by
 * @property {Record<string, (event: any) => void>} handlers of the stage
 */

/**
 * Lets a picture be zoomed on a stage.
 * @param {import("../vendor/flow.js").RefObject<HTMLElement | null>} stage
 * @param {Size} picture
 * @param {object} [how]
 * @param {(event: PointerEvent) => boolean} [how.pans] which presses move it
 * @param {(way: 1 | -1) => void} [how.onSwipe]
 * @param {import("../vendor/flow.js").RefObject<HTMLElement | null>} [how.stages] what holds all stages, where there are several
 * @returns {Zooming}
 */
export function useZoom(stage, picture, { pans = () => true, onSwipe, stages = stage } = {}) {
  const [room, setRoom] = useState({ width: 0, height: 0 });
  const [own, setOwn] = useState(/** @type {Place | null} */ (null));
  const place = own ?? fitted(room, picture);
  const now = useRef({ place, room, picture });
  now.current = { place, room, picture };
  const set = useCallback((/** @type {Place} */ next) => setOwn(kept(next, now.current.room, now.current.picture)), []);

  useLayoutEffect(() => {
    const element = /** @type {HTMLElement} */ (stage.current);
    const measure = () => setRoom({ width: element.clientWidth, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    measure();
    return () => observer.disconnect();
  }, [stage]);

  useEffect(() => {
    const element = /** @type {HTMLElement} */ (stages.current);
    const onWheel = (/** @type {WheelEvent} */ event) => {
      event.preventDefault();
      const amount = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
      const { place: at } = now.current;
      const below = /** @type {HTMLElement} */ (event.target).closest(".full-stage") ?? element;
      set(zoomed(at, at.zoom * Math.exp(-amount * (event.ctrlKey ? 0.01 : 0.0022)), pointOf(below, event)));
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, [stages, set]);

  const to = useCallback((/** @type {number} */ zoom) => {
    const { place: at, room: { width, height } } = now.current;
    set(zoomed(at, zoom, { x: width / 2, y: height / 2 }));
  }, [set]);
  return {
    place, room, to,
    isFit: own === null,
    fit: useCallback(() => setOwn(null), []),
    by: useCallback((/** @type {number} */ steps) => to(now.current.place.zoom * STEP ** steps), [to]),
    handlers: usePointers(now, set, own === null, pans, onSwipe),
  };
}

/**
 * Drags and pinches.
 * @param {any} now @param {(place: Place) => void} set @param {boolean} isFit
 * @param {(event: PointerEvent) => boolean} pans @param {((way: 1 | -1) => void) | undefined} onSwipe
 */
function usePointers(now, set, isFit, pans, onSwipe) {
  const pointers = useRef(/** @type {Map<number, {x: number, y: number}>} */ (new Map()));
  const swipe = useRef(/** @type {{x: number, y: number} | null} */ (null));
  const gone = (/** @type {PointerEvent} */ event) => {
    const from = swipe.current;
    if (pointers.current.delete(event.pointerId) && from && onSwipe) {
      const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
      if (event.type === "pointerup" && Math.abs(dx) > SWIPE && Math.abs(dx) > 2 * Math.abs(dy)) onSwipe(dx < 0 ? 1 : -1);
    }
    swipe.current = null;
  };
  return {
    onPointerDown(/** @type {any} */ event) {
      const isSecond = event.pointerType === "touch" && pointers.current.size > 0;
      if (!isSecond && event.pointerType !== "touch" && !pans(event.nativeEvent)) return;
      const point = pointOf(event.currentTarget, event);
      swipe.current = event.pointerType === "touch" && isFit && !isSecond ? { x: event.clientX, y: event.clientY } : null;
      pointers.current.set(event.pointerId, point);
      if (pans(event.nativeEvent) || isSecond) event.currentTarget.setPointerCapture(event.pointerId);
    },
    onPointerMove(/** @type {any} */ event) {
      const before = pointers.current.get(event.pointerId);
      if (!before) return;
      const after = pointOf(event.currentTarget, event);
      const { place } = now.current;
      const other = [...pointers.current].find(([id]) => id !== event.pointerId)?.[1];
      pointers.current.set(event.pointerId, after);
      if (other) {
        const ratio = distance(after, other) / Math.max(1, distance(before, other));
        const moved = { ...place, x: place.x + (after.x - before.x) / 2, y: place.y + (after.y - before.y) / 2 };
        set(zoomed(moved, place.zoom * ratio, { x: (after.x + other.x) / 2, y: (after.y + other.y) / 2 }));
      } else if (!swipe.current && pans(event.nativeEvent)) set({ ...place, x: place.x + after.x - before.x, y: place.y + after.y - before.y });
    },
    onPointerUp: gone,
    onPointerCancel: gone,
  };
}

/**
 * Where a pointer is on an element.
 * @param {Element} element
 * @param {{clientX: number, clientY: number}} event
 */
export function pointOf(element, { clientX, clientY }) {
  const { left, top } = element.getBoundingClientRect();
  return { x: clientX - left, y: clientY - top };
}

/**
 * The style that puts a picture at its place; pixels are sharp where they are large.
 * @param {Place} place
 * @param {Size} picture
 * @returns {import("../vendor/flow.js").CSSProperties}
 */
export function styleOf({ zoom, x, y }, { width, height }) {
  return {
    width: width * zoom, height: height * zoom, transform: `translate(${Math.round(x)}px, ${Math.round(y)}px)`,
    imageRendering: zoom >= 2 ? "pixelated" : "auto",
  };
}

/** @param {{x: number, y: number}} one @param {{x: number, y: number}} other */
const distance = (one, other) => Math.hypot(one.x - other.x, one.y - other.y);

/**
 * What a key does to the zoom: `+`, `-`, `0` or `f` for all, `1` for 100 %; false when it does nothing.
 * @param {Zooming} zooming
 * @param {string} key
 */
export function zoomKey(zooming, key) {
  if (key === "+" || key === "=") zooming.by(1);
  else if (key === "-") zooming.by(-1);
  else if (key === "0" || key === "f") zooming.fit();
  else if (key === "1") zooming.to(1);
  else return false;
  return true;
}
