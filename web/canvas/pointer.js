/** Gestures of the pointer, from a press to its end. */

const RIM = 40; // pixels from the canvas's sides in which a gesture moves the view
const SPEED = 14;

/**
 * Follows a pointer that was pressed until it is let go, or the gesture is taken back with Escape.
 * @param {PointerEvent} event the press
 * @param {object} how
 * @param {number} [how.start] pixels that are no gesture yet
 * @param {(event: PointerEvent) => void} how.onMove
 * @param {(event: PointerEvent | null, isMoved: boolean) => void} how.onEnd null when it was taken back
 */
export function follow(event, { start = 4, onMove, onEnd }) {
  const { pointerId, clientX, clientY } = event;
  const ends = new AbortController();
  const { signal } = ends;
  let isMoved = false;
  const end = (/** @type {PointerEvent | null} */ last) => {
    ends.abort();
    onEnd(last, isMoved);
  };
  const isMine = (/** @type {PointerEvent} */ now) => now.pointerId === pointerId;
  window.addEventListener("pointermove", (now) => {
    isMoved ||= isMine(now) && Math.hypot(now.clientX - clientX, now.clientY - clientY) >= start;
    if (isMoved && isMine(now)) onMove(now);
  }, { signal });
  window.addEventListener("pointerup", (now) => isMine(now) && end(now), { signal });
  window.addEventListener("pointercancel", (now) => isMine(now) && end(null), { signal });
  window.addEventListener("keydown", (now) => {
    if (now.key !== "Escape") return;
    now.preventDefault();
    now.stopPropagation();
    end(null);
  }, { signal, capture: true });
}

/**
 * Moves the view while a gesture is near the canvas's rim.
 * @param {HTMLElement} element
 * @param {(by: {x: number, y: number}) => void} panBy
 * @param {(event: PointerEvent) => void} again what the gesture does after the view moved
 */
export function rimPan(element, panBy, again) {
  const box = element.getBoundingClientRect();
  /** @type {PointerEvent | null} */
  let last = null;
  let frame = 0;
  const step = () => {
    frame = 0;
    if (!last) return;
    const by = { x: push(last.clientX, box.left, box.right), y: push(last.clientY, box.top, box.bottom) };
    if (!by.x && !by.y) return;
    panBy(by);
    again(last);
    frame = requestAnimationFrame(step);
  };
  return {
    /** @param {PointerEvent} event */
    at(event) {
      last = event;
      frame ||= requestAnimationFrame(step);
    },
    stop() {
      last = null;
      cancelAnimationFrame(frame);
    },
  };
}

/** @param {number} at @param {number} from @param {number} to */
function push(at, from, to) {
  if (at < from || at > to) return 0;
  const depth = Math.max(0, RIM - (at - from)) - Math.max(0, RIM - (to - at));
  return (depth / RIM) * SPEED;
}
