/** A mask as it is painted: one byte for each pixel, 255 where it is masked. Pure but for the bytes it is given. */

/**
 * @typedef {{width: number, height: number, bytes: Uint8ClampedArray}} Mask
 * @typedef {{x: number, y: number, width: number, height: number}} Rect
 * @typedef {{rect: Rect, before: Uint8ClampedArray, after: Uint8ClampedArray}} Patch a step of undo
 * @typedef {object} Brush
 * @property {number} radius in pixels of the picture
 * @property {number} hardness 0..1: which part of the radius is full
 * @property {boolean} erases
 */

/** An empty mask. @param {number} width @param {number} height @returns {Mask} */
export function emptyMask(width, height) {
  return { width, height, bytes: new Uint8ClampedArray(width * height) };
}

/**
 * Paints from one point to another -> the pixels that may have changed, or null where none did.
 * @param {Mask} mask
 * @param {{x: number, y: number}} from
 * @param {{x: number, y: number}} to
 * @param {Brush} brush
 * @returns {Rect | null}
 */
export function stroke(mask, from, to, brush) {
  const length = Math.hypot(to.x - from.x, to.y - from.y);
  const steps = Math.max(1, Math.ceil(length / Math.max(0.5, brush.radius / 5)));
  /** @type {Rect | null} */
  let changed = null;
  for (let step = length ? 1 : steps; step <= steps; step += 1) {
    const part = step / steps;
    changed = union(changed, dab(mask, from.x + (to.x - from.x) * part, from.y + (to.y - from.y) * part, brush));
  }
  return changed;
}

/**
 * Sets each byte -> a patch to undo it.
 * @param {Mask} mask
 * @param {(byte: number) => number} change
 */
export function everywhere(mask, change) {
  const before = mask.bytes.slice();
  for (let at = 0; at < before.length; at += 1) mask.bytes[at] = change(before[at]);
  return patchOf(mask, before, wholeOf(mask));
}

/**
 * A step of undo: what a part of a mask was, and is.
 * @param {Mask} mask
 * @param {Uint8ClampedArray} before all bytes as they were
 * @param {Rect} rect
 * @returns {Patch}
 */
export function patchOf(mask, before, rect) {
  return { rect, before: cut(before, mask.width, rect), after: cut(mask.bytes, mask.width, rect) };
}

/**
 * Puts a part back.
 * @param {Mask} mask
 * @param {Rect} rect
 * @param {Uint8ClampedArray} bytes of that part
 */
export function put(mask, rect, bytes) {
  for (let row = 0; row < rect.height; row += 1) {
    mask.bytes.set(bytes.subarray(row * rect.width, (row + 1) * rect.width), (rect.y + row) * mask.width + rect.x);
  }
}

/**
 * The mask that a picture carries: what is transparent.
 * @param {Uint8ClampedArray} rgba
 * @param {number} width
 * @param {number} height
 * @returns {Mask}
 */
export function maskOf(rgba, width, height) {
  const mask = emptyMask(width, height);
  for (let at = 0; at < mask.bytes.length; at += 1) mask.bytes[at] = 255 - rgba[at * 4 + 3];
  return mask;
}

/**
 * A part of a mask as pixels: painted in a colour, or as the transparency that carries it in a file.
 * @param {Mask} mask
 * @param {Rect} rect
 * @param {[number, number, number] | null} colour null for a file: transparent where it is masked
 */
export function pixelsOf(mask, rect, colour) {
  const pixels = new Uint8ClampedArray(rect.width * rect.height * 4);
  for (let row = 0, at = 0; row < rect.height; row += 1) {
    for (let column = 0; column < rect.width; column += 1, at += 4) {
      const byte = mask.bytes[(rect.y + row) * mask.width + rect.x + column];
      if (colour) [pixels[at], pixels[at + 1], pixels[at + 2]] = colour;
      pixels[at + 3] = colour ? byte : 255 - byte;
    }
  }
  return pixels;
}

/** All of a mask. @param {Mask} mask @returns {Rect} */
export function wholeOf({ width, height }) {
  return { x: 0, y: 0, width, height };
}

/** True when nothing is masked. @param {Mask} mask */
export function isEmpty({ bytes }) {
  return bytes.every((byte) => byte === 0);
}

/**
 * What holds two parts.
 * @param {Rect | null} one
 * @param {Rect | null} other
 * @returns {Rect | null}
 */
export function union(one, other) {
  if (!one || !other) return one ?? other;
  const [x, y] = [Math.min(one.x, other.x), Math.min(one.y, other.y)];
  return { x, y, width: Math.max(one.x + one.width, other.x + other.width) - x, height: Math.max(one.y + one.height, other.y + other.height) - y };
}

/** One touch of the brush. @param {Mask} mask @param {number} x @param {number} y @param {Brush} brush @returns {Rect | null} */
function dab(mask, x, y, { radius, hardness, erases }) {
  const [left, top] = [Math.max(0, Math.floor(x - radius)), Math.max(0, Math.floor(y - radius))];
  const [right, bottom] = [Math.min(mask.width, Math.ceil(x + radius)), Math.min(mask.height, Math.ceil(y + radius))];
  if (left >= right || top >= bottom) return null;
  const full = Math.max(0, Math.min(radius * hardness, radius - 1)); // the edge is a pixel at least, so that it looks round
  const edge = radius - full;
  for (let row = top; row < bottom; row += 1) {
    for (let column = left; column < right; column += 1) {
      const distance = Math.hypot(column + 0.5 - x, row + 0.5 - y);
      const amount = Math.min(1, Math.max(0, (full + edge - distance) / edge));
      if (!amount) continue;
      const at = row * mask.width + column;
      const byte = 255 * amount * (hardness < 1 ? amount * (3 - 2 * amount) : 1);
      mask.bytes[at] = erases ? Math.min(mask.bytes[at], 255 - byte) : Math.max(mask.bytes[at], byte);
    }
  }
  return { x: left, y: top, width: right - left, height: bottom - top };
}

/** @param {Uint8ClampedArray} bytes @param {number} wide @param {Rect} rect */
function cut(bytes, wide, { x, y, width, height }) {
  const part = new Uint8ClampedArray(width * height);
  for (let row = 0; row < height; row += 1) part.set(bytes.subarray((y + row) * wide + x, (y + row) * wide + x + width), row * width);
  return part;
}
