/** The brush of the mask editor: strokes by mouse, pen and finger, and by keys. */

import { useEffect, useRef } from "../vendor/flow.js";
import { pixelAt } from "../graph/zoom.js";
import { pointOf } from "./zooming.js";

/** @import {Masking} from "./masking.js" */
/** @import {Tools} from "./MaskEditor.js" */
/** @import {Zooming} from "./zooming.js" */

const ERASER = 32; // the end of a pen, in `buttons`

/**
 * Paints with what the pointer does on the stage; the second finger, the middle button and Space move the picture instead.
 * @param {object} parts
 * @param {import("../vendor/flow.js").RefObject<HTMLDivElement | null>} parts.stage
 * @param {Zooming} parts.zooming
 * @param {Masking["painter"]} parts.painter
 * @param {Tools} parts.tools
 * @param {boolean} parts.isHeld Space is down
 */
export function useBrush({ stage, zooming, painter, tools, isHeld }) {
  const fingers = useRef(new Set());
  const pointer = useRef(-1);
  const diameter = 2 * tools.radius * zooming.place.zoom;
  const { cursor, at, show } = useCursor(diameter);
  const pixel = (/** @type {{clientX: number, clientY: number}} */ event) => pixelAt(zooming.place, pointOf(/** @type {HTMLElement} */ (stage.current), event));
  const end = (/** @type {any} */ event) => {
    fingers.current.delete(event.pointerId);
    zooming.handlers[event.type === "pointerup" ? "onPointerUp" : "onPointerCancel"](event);
    if (pointer.current !== event.pointerId) return;
    pointer.current = -1;
    painter.end();
  };
  return {
    cursor,
    handlers: {
      onPointerDown(/** @type {any} */ event) {
        zooming.handlers.onPointerDown(event);
        if (event.pointerType === "touch") fingers.current.add(event.pointerId);
        if (fingers.current.size > 1) {
          painter.drop();
          pointer.current = -1;
        } else if (!isHeld && event.button !== 1 && pointer.current < 0) {
          event.currentTarget.setPointerCapture(event.pointerId);
          pointer.current = event.pointerId;
          painter.begin(pixel(event), brushOf(tools, event));
        }
      },
      onPointerMove(/** @type {any} */ event) {
        zooming.handlers.onPointerMove(event);
        show(pointOf(/** @type {HTMLElement} */ (stage.current), event));
        if (pointer.current !== event.pointerId) return;
        const events = event.nativeEvent.getCoalescedEvents?.() ?? [];
        for (const one of events.length ? events : [event.nativeEvent]) painter.to(pixel(one), brushOf(tools, one));
      },
      onPointerUp: end,
      onPointerCancel: end,
      onPointerLeave() {
        if (cursor.current && pointer.current < 0) cursor.current.hidden = true;
      },
      onContextMenu: (/** @type {any} */ event) => event.preventDefault(),
    },
    /** Moves the brush by arrows and paints by Enter, while the stage has the focus; false for other keys. @param {KeyboardEvent} event */
    key(event) {
      if (event.target !== stage.current) return false;
      const step = Math.max(1, diameter / 4) * (event.shiftKey ? 4 : 1);
      const way = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
      if (!way && event.key !== "Enter") return false;
      const { x, y } = cursor.current?.hidden ? { x: zooming.room.width / 2, y: zooming.room.height / 2 } : at.current;
      show({ x: x + (way?.[0] ?? 0), y: y + (way?.[1] ?? 0) });
      if (!way) {
        painter.begin(pixelAt(zooming.place, at.current), brushOf(tools, null));
        painter.end();
      }
      return true;
    },
  };
}

/** The circle that shows where the brush is and how large. @param {number} diameter */
function useCursor(diameter) {
  const cursor = useRef(/** @type {HTMLSpanElement | null} */ (null));
  const at = useRef({ x: 0, y: 0 });
  const show = (/** @type {{x: number, y: number}} */ point) => {
    at.current = point;
    const element = cursor.current;
    if (!element) return;
    element.hidden = false;
    Object.assign(element.style, { width: `${diameter}px`, height: `${diameter}px`, transform: `translate(${point.x - diameter / 2}px, ${point.y - diameter / 2}px)` });
  };
  useEffect(() => {
    if (!cursor.current?.hidden) show(at.current);
  });
  return { cursor, at, show };
}

/** The brush as a pen presses it. @param {Tools} tools @param {PointerEvent | null} event */
function brushOf({ radius, hardness, erases }, event) {
  return {
    radius: event?.pointerType === "pen" ? Math.max(0.5, radius * 2 * event.pressure) : radius,
    hardness,
    erases: erases || ((event?.buttons ?? 0) & (2 | ERASER)) > 0,
  };
}
