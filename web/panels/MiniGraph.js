/** A small drawing of a graph, where there is no picture of it. */

import { html, useMemo } from "../vendor/flow.js";
import { typeClass } from "../canvas/types.js";
import { settled } from "../graph/document.js";
import { boundsOf, shapeOf } from "../graph/geometry.js";
import { arrange } from "../graph/places.js";
import { isLink } from "../graph/ports.js";
import { useAppState } from "../state/use.js";

/** @import {Doc, Specs} from "../graph/types.js" */

const MARGIN = 60;

/** @param {{doc: Doc}} props */
export function MiniGraph({ doc }) {
  const specs = useAppState((state) => state.specs);
  const drawn = useMemo(() => drawing(doc, specs), [doc, specs]);
  if (!drawn) return html`<span class="mini-graph" />`;
  return html`<svg class="mini-graph" viewBox=${drawn.viewBox} aria-hidden="true">
    ${drawn.wires.map(({ key, path }) => html`<path key=${key} d=${path} />`)}
    ${drawn.boxes.map(({ id, type, ...box }) => html`<g key=${id} class=${type}><rect ...${box} rx="16" /><rect class="mini-head" ...${box} height=${34} rx="16" /></g>`)}
  </svg>`;
}

/** @param {Doc} given @param {Specs} specs */
function drawing(given, specs) {
  const doc = settled(given, specs, arrange(specs));
  const bounds = boundsOf(doc, specs, Object.keys(doc.nodes));
  if (!bounds) return null;
  const boxes = Object.keys(doc.nodes).map((id) => {
    const { width, height, outputs } = shapeOf(doc, specs, id);
    const [x, y] = doc.ui?.positions?.[id] ?? [0, 0];
    return { id, x, y, width, height, type: typeClass(outputs[0]?.port ?? "*") };
  });
  const places = new Map(boxes.map((box) => [box.id, box]));
  const wires = Object.entries(doc.nodes).flatMap(([id, node]) => Object.entries(node.inputs).flatMap(([name, value]) => {
    const [from, to] = [isLink(value) && places.get(value[0]), places.get(id)];
    if (!from || !to) return [];
    const [x1, y1, x2, y2] = [from.x + from.width, from.y + 50, to.x, to.y + 50];
    const bend = Math.max(40, Math.abs(x2 - x1) / 2);
    return [{ key: `${id}.${name}`, path: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` }];
  }));
  const viewBox = [bounds.x - MARGIN, bounds.y - MARGIN, bounds.width + 2 * MARGIN, bounds.height + 2 * MARGIN].join(" ");
  return { viewBox, boxes, wires };
}
