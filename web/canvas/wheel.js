/** The wheel: a mouse's zooms; two fingers on a trackpad move the view, and a pinch zooms. */

import { useCallback, useState } from "../vendor/flow.js";

const KEY = "nodegraph.wheel"; // "zoom" or "pan" settles what is else guessed
const NOTCH = 50; // pixels that a mouse's wheel moves at least at once

/** Whether the wheel moves the view, and the listener that finds it out. */
export function useWheel() {
  const settled = localStorage.getItem(KEY);
  const [isTrackpad, setTrackpad] = useState(settled === "pan");
  const onWheel = useCallback((/** @type {WheelEvent} */ event) => {
    if (settled || event.ctrlKey || event.metaKey) return; // a pinch comes as a wheel with Ctrl
    const isFine = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL && (event.deltaX !== 0 || Math.abs(event.deltaY) < NOTCH);
    setTrackpad(isFine && !event.shiftKey);
  }, [settled]);
  return { isTrackpad, onWheel };
}
