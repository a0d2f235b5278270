/** How types of ports look. */

const KNOWN = new Set([
  "MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "IMAGE", "MASK", "INT", "FLOAT", "BOOLEAN", "STRING", "COMBO",
  "CONTROL_NET", "UPSCALE_MODEL", "SAMPLER", "SIGMAS", "NOISE", "GUIDER", "CLIP_VISION", "STYLE_MODEL",
]);
const SHADES = 8;

/**
 * The class that gives a type its colour: its own, or one of eight by its name.
 * @param {string} type
 */
export function typeClass(type) {
  if (KNOWN.has(type)) return `type-${type.toLowerCase()}`;
  if (type === "*") return "type-any";
  return `type-other-${[...type].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 997, 0) % SHADES}`;
}
