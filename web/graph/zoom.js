/** Where a picture is on its stage, and how large. Pure. */

/**
 * @typedef {{width: number, height: number}} Size
 * @typedef {{zoom: number, x: number, y: number}} Place how many pixels of the stage one of the picture takes, and where its corner is
 */

export const LEAST = 0.02;
export const MOST = 64;
const SEEN = 48; // pixels of a picture that stay on the stage

/**
 * The place at which all of a picture is seen, not larger than it is unless it is tiny.
 * @param {Size} stage
 * @param {Size} picture
 * @param {number} [largest]
 * @returns {Place}
 */
export function fitted(stage, picture, largest = 8) {
  if (!picture.width || !picture.height || !stage.width) return { zoom: 1, x: 0, y: 0 };
  const zoom = Math.min(stage.width / picture.width, stage.height / picture.height, largest);
  return centred(stage, picture, zoom);
}

/**
 * A picture in the middle of its stage.
 * @param {Size} stage
 * @param {Size} picture
 * @param {number} zoom
 * @returns {Place}
 */
function centred(stage, picture, zoom) {
  return { zoom, x: (stage.width - picture.width * zoom) / 2, y: (stage.height - picture.height * zoom) / 2 };
}

/**
 * The place after a zoom that leaves the point below the pointer where it is.
 * @param {Place} place
 * @param {number} zoom
 * @param {{x: number, y: number}} point on the stage
 * @returns {Place}
 */
export function zoomed(place, zoom, point) {
  const next = Math.min(MOST, Math.max(LEAST, zoom));
  const ratio = next / place.zoom;
  return { zoom: next, x: point.x - (point.x - place.x) * ratio, y: point.y - (point.y - place.y) * ratio };
}

/**
 * The place after a move, with some of the picture still on the stage.
 * @param {Place} place
 * @param {Size} stage
 * @param {Size} picture
 * @returns {Place}
 */
export function kept({ zoom, x, y }, stage, picture) {
  const within = (/** @type {number} */ at, /** @type {number} */ room, /** @type {number} */ length) => Math.min(room - SEEN, Math.max(SEEN - length, at));
  return { zoom, x: within(x, stage.width, picture.width * zoom), y: within(y, stage.height, picture.height * zoom) };
}

/**
 * The pixel of a picture at a point of the stage.
 * @param {Place} place
 * @param {{x: number, y: number}} point
 */
export function pixelAt({ zoom, x, y }, point) {
  return { x: (point.x - x) / zoom, y: (point.y - y) / zoom };
}
