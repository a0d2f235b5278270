/** A map of the graph: one picture, drawn anew when nodes move, and a frame for what is seen. */

import { html, memo, useEffect, useRef, useStoreApi } from "../vendor/flow.js";
import { typeClass } from "./types.js";

/** @import {FlowNode} from "./flow.js" */
/** @typedef {{x: number, y: number, scale: number}} Fit from the document's places to the map's pixels */

const WIDTH = 180;
const HEIGHT = 120;
const MARGIN = 8;
const PAINT_MS = 120; // between two pictures while nodes move

/** The map; a press or a drag on it moves the view there. */
export const Minimap = memo(function Minimap(/** @type {{nodes: FlowNode[]}} */ { nodes }) {
  const store = useStoreApi();
  const picture = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const frame = useRef(/** @type {HTMLDivElement | null} */ (null));
  const fit = useRef(/** @type {Fit} */ ({ x: 0, y: 0, scale: 1 }));
  const newest = useRef(nodes);
  const timer = useRef(0);

  useEffect(() => {
    newest.current = nodes;
    timer.current ||= window.setTimeout(() => {
      timer.current = 0;
      fit.current = fitOf(newest.current);
      if (picture.current) paint(picture.current, newest.current, fit.current);
      place(frame.current, store.getState(), fit.current);
    }, PAINT_MS);
  }, [nodes, store]);
  useEffect(() => () => clearTimeout(timer.current), []);
  useEffect(() => store.subscribe((now, before) => {
    if (now.transform !== before.transform || now.width !== before.width) place(frame.current, now, fit.current);
  }), [store]);

  const go = (/** @type {any} */ event) => {
    if (!event.buttons) return;
    const box = event.currentTarget.getBoundingClientRect();
    const { x, y, scale } = fit.current;
    void store.getState().setCenter((event.clientX - box.left) / scale + x, (event.clientY - box.top) / scale + y, { zoom: store.getState().transform[2] });
  };
  return html`<div class="minimap" role="img" aria-label="Map of the graph" onPointerDown=${(/** @type {any} */ event) => {
    event.currentTarget.setPointerCapture(event.pointerId);
    go(event);
  }} onPointerMove=${go}>
    <canvas ref=${picture} width=${2 * WIDTH} height=${2 * HEIGHT}></canvas>
    <div ref=${frame} class="minimap-frame"></div>
  </div>`;
});

/** @param {FlowNode[]} nodes @returns {Fit} */
function fitOf(nodes) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const { position: { x, y }, measured } of nodes) {
    [left, top] = [Math.min(left, x), Math.min(top, y)];
    [right, bottom] = [Math.max(right, x + (measured?.width ?? 0)), Math.max(bottom, y + (measured?.height ?? 0))];
  }
  const scale = Math.min((WIDTH - 2 * MARGIN) / Math.max(1, right - left), (HEIGHT - 2 * MARGIN) / Math.max(1, bottom - top));
  return { x: (left + right - WIDTH / scale) / 2, y: (top + bottom - HEIGHT / scale) / 2, scale };
}

/** @param {HTMLCanvasElement} canvas @param {FlowNode[]} nodes @param {Fit} fit */
function paint(canvas, nodes, { x, y, scale }) {
  const pen = canvas.getContext("2d");
  if (!pen) return;
  const styles = getComputedStyle(canvas);
  const colors = new Map();
  pen.clearRect(0, 0, canvas.width, canvas.height);
  for (const { type, position, measured, selected, data } of nodes) {
    const kind = data.color ?? (selected ? "--accent" : tokenOf(data.shape?.outputs[0]?.port));
    if (!colors.has(kind)) colors.set(kind, kind.startsWith("--") ? styles.getPropertyValue(kind) : kind);
    pen.fillStyle = pen.strokeStyle = type === "frame" ? data.group?.color ?? colors.get(kind) : colors.get(kind);
    const box = /** @type {const} */ ([2 * (position.x - x) * scale, 2 * (position.y - y) * scale, Math.max(2, 2 * (measured?.width ?? 0) * scale), Math.max(2, 2 * (measured?.height ?? 0) * scale)]);
    pen.globalAlpha = selected ? 1 : 0.55;
    if (type === "frame") pen.strokeRect(...box);
    else pen.fillRect(...box);
  }
}

/** The colour token of a type. @param {string | undefined} port */
function tokenOf(port) {
  const name = typeClass(port ?? "*").replace("type-", "");
  return TOKENS[name] ?? `--${name}`;
}

/** @type {Record<string, string>} where a type has another's colour */
const TOKENS = {
  clip_vision: "--clip", int: "--number", float: "--number", boolean: "--number", combo: "--string", control_net: "--control", style_model: "--control",
  upscale_model: "--control", sigmas: "--sampler", noise: "--sampler", guider: "--sampler",
};

/** @param {HTMLElement | null} frame @param {{transform: number[], width: number, height: number}} view @param {Fit} fit */
function place(frame, { transform: [tx, ty, zoom], width, height }, { x, y, scale }) {
  if (!frame) return;
  frame.style.transform = `translate(${(-tx / zoom - x) * scale}px,${(-ty / zoom - y) * scale}px)`;
  frame.style.width = `${(width / zoom) * scale}px`;
  frame.style.height = `${(height / zoom) * scale}px`;
}
