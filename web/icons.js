/** Icons, drawn in the colour of the text around them. */

import { html } from "./vendor/flow.js";

const PATHS = {
  plus: "M8 3v10M3 8h10",
  close: "M4 4l8 8M12 4l-8 8",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM10.5 10.5 14 14",
  play: "M5 3l8 5-8 5z",
  stop: "M4 4h8v8H4z",
  fit: "M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4",
  menu: "M2 4h12M2 8h12M2 12h12",
  dice: "M3 3h10v10H3zM6 6h.01M10 10h.01M8 8h.01M10 6h.01M6 10h.01",
  lock: "M4 7h8v6H4zM6 7V5a2 2 0 0 1 4 0v2",
  up: "M8 13V3M4 7l4-4 4 4",
  down: "M8 3v10M4 9l4 4 4-4",
  chevron: "M4 6l4 4 4-4",
  first: "M3 2.5h10M8 14V5.500M4 9.500l4-4 4 4",
  retry: "M13 3v4H9M13 7a5 5 0 1 0 0 3",
  download: "M8 2v8M4 7l4 4 4-4M2 14h12",
  folder: "M2 4h4l2 2h6v7H2z",
  model: "M8 2l6 3v6l-6 3-6-3V5zM2 5l6 3 6-3M8 8v6",
  form: "M3 3h10v4H3zM3 9h10v4H3z",
  graph: "M2 3h4v3H2zM10 10h4v3h-4zM6 4.5h2v7h2",
  warn: "M8 2l6.5 11.5h-13zM8 6v3M8 11.5h.01",
  check: "M3 8l4 4 6-8",
  minus: "M3 8h10",
  sun: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM8 1v2M8 13v2M1 8h2M13 8h2M3 3l1.5 1.5M11.5 11.5 13 13M13 3l-1.5 1.5M4.5 11.5 3 13",
  dock: "M2 3h12v10H2zM10 3v10",
  link: "M6.5 9.5l3-3M7 4.5 8.5 3a3 3 0 0 1 4.5 4.5L11.5 9M9 11.5 7.5 13A3 3 0 0 1 3 8.5L4.5 7",
  brush: "M13.5 2.5 8 8.5M8 8.5c-2 0-2 1.5-2.5 3s-2 2-3 2.5c3 .5 6.5 0 6.5-3 0-1-.5-1.5-1-2.5z",
  upload: "M8 10V2M4 6l4-4 4 4M2 14h12",
  picture: "M2 3h12v10H2zM2 11l4-4 3 3 2-2 3 3M10.5 6h.01",
  more: "M3 8h.01M8 8h.01M13 8h.01",
  history: "M3 8a5 5 0 1 0 2-4L3 6M3 2v4h4M8 5v3l2 1",
  compare: "M8 1v14M2 4h4v8H2zM10 4h4v8h-4",
  copy: "M5 5h8v8H5zM3 11V3h8",
  trash: "M3 4h10M6 4V2h4v2M4.5 4l.5 10h6l.5-10M7 7v4M9 7v4",
  left: "M10 3 5 8l5 5",
  right: "M6 3l5 5-5 5",
  info: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 7.5V11M8 5h.01",
  eraser: "M6 13 2 9l6.5-6.5 5 5L8 13zM5 6l5 5M8 13h6",
  undo: "M4 5h6a3.5 3.5 0 0 1 0 7H6M4 5l3-3M4 5l3 3",
  redo: "M12 5H6a3.5 3.5 0 0 0 0 7h4M12 5 9 2M12 5 9 8",
};

/**
 * An icon of 16 pixels; it says nothing to screen readers, its button does.
 * @param {{name: keyof typeof PATHS}} props
 */
export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 16 16" width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.5"
    stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
}
