/** Numbers as they are typed, dragged and stepped: expressions, limits, steps and seeds. Pure. */

import { narrow } from "../net/exact.js";

/** @import {InputSpec, SeedMode} from "../graph/types.js" */
/** @typedef {number | bigint} Num a BigInt is a whole number beyond 2^53 */

const GRID = 8; // steps of this many are no convenience
const TOKENS = /\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?|\*\*|\S/gi;
const WIDEST = { fromZero: 256, aroundZero: 20 }; // spans of limits in which a place can be seen
const LARGEST_SEED = 2 ** 53 - 1; // of those that are drawn: what every JSON reader holds exactly
const DIGITS = 15;

/**
 * What is typed -> its number: a literal, or sums, products and powers such as `512*2` or `(1+2)/3`; null where it is none.
 * @param {string} text
 * @returns {Num | null}
 */
export function evaluate(text) {
  if (/^\s*[+-]?\d+\s*$/.test(text)) return narrow(BigInt(text.trim().replace(/^\+/, "")));
  const tokens = text.match(TOKENS) ?? [];
  let at = 0;
  const takes = (/** @type {string[]} */ ...signs) => (signs.includes(tokens[at]) ? tokens[at++] : "");
  const sum = () => {
    let found = product();
    for (let sign = takes("+", "-"); sign; sign = takes("+", "-")) found += (sign === "-" ? -1 : 1) * product();
    return found;
  };
  const product = () => {
    let found = signed();
    for (let sign = takes("*", "/", "%"); sign; sign = takes("*", "/", "%")) {
      const other = signed();
      found = sign === "*" ? found * other : sign === "/" ? found / other : found % other;
    }
    return found;
  };
  /** @returns {number} */
  const signed = () => (takes("-") ? -signed() : takes("+") ? signed() : power());
  /** @returns {number} */
  const power = () => {
    const base = atom();
    return takes("^", "**") ? base ** signed() : base;
  };
  const atom = () => {
    if (!takes("(")) return /^[\d.]/.test(tokens[at] ?? "") ? Number(tokens[at++]) : NaN;
    const found = sum();
    return takes(")") ? found : NaN;
  };
  const found = sum();
  return at === tokens.length && Number.isFinite(found) ? tidy(found) : null;
}

/**
 * What is typed -> the value of an input, or why it cannot be that.
 * @param {InputSpec} input
 * @param {string} text
 * @returns {{value: Num, why?: undefined} | {value?: undefined, why: string}}
 */
export function read(input, text) {
  const typed = evaluate(text);
  if (typed === null) return { why: `“${text}” is no number; try 512 or 512*2` };
  const value = typeof typed === "number" && input.port === "FLOAT" ? rounded(input, typed) : typed;
  if (input.port === "INT" && typeof value === "number" && !Number.isInteger(value)) return { why: `${value} is not a whole number` };
  const why = refusal(input, value);
  return why ? { why } : { value };
}

/**
 * The limits of an input in words: `1 to 10000, in steps of 8`; "" without any.
 * @param {InputSpec} input
 */
export function limits({ min, max, exclusive_min: above, exclusive_max: below, multiple_of: unit }) {
  const low = min !== undefined ? `${min}` : above !== undefined ? `above ${above}` : "";
  const high = max !== undefined ? `${max}` : below !== undefined ? `below ${below}` : "";
  const span = min !== undefined && max !== undefined ? `${low} to ${high}`
    : [min !== undefined ? `at least ${low}` : low, max !== undefined ? `at most ${high}` : high].filter(Boolean).join(", ");
  return [span, unit !== undefined && `multiples of ${unit}`].filter(Boolean).join(", ");
}

/**
 * A value some steps further, kept within the limits.
 * @param {InputSpec} input
 * @param {Num} value
 * @param {number} steps may be part of one
 * @param {number} [fine] 0.1 for a tenth of a step at a time
 * @returns {Num}
 */
export function moved(input, value, steps, fine = 1) {
  const grain = grainOf(input, fine);
  const grains = Math.round((steps * stepOf(input)) / grain);
  if (input.port !== "INT") return within(input, tidy(Number(value) + grains * grain), grain);
  return within(input, narrow(wholeOf(value) + BigInt(grains) * BigInt(grain)), grain);
}

/**
 * A value some presses of an arrow further; the finest press moves it too.
 * @param {InputSpec} input
 * @param {Num} value
 * @param {number} presses
 * @param {number} [fine]
 */
export function stepped(input, value, presses, fine = 1) {
  return moved(input, value, (presses * grainOf(input, fine)) / stepOf(input), fine);
}

/**
 * How much of the way from the least to the most a value is, 0 to 1; null where the limits are too far apart to see it.
 * @param {InputSpec} input
 * @param {Num} value
 */
export function partOf(input, value) {
  const low = Number(input.min ?? input.exclusive_min ?? NaN);
  const high = Number(input.max ?? input.exclusive_max ?? NaN);
  const isNear = high - low <= (low < 0 ? WIDEST.aroundZero : WIDEST.fromZero) || input.display === "slider";
  return isNear && high > low ? Math.min(1, Math.max(0, (Number(value) - low) / (high - low))) : null;
}

/**
 * The steps from the least to the most, for a slider.
 * @param {InputSpec} input
 */
export function stepsAcross(input) {
  return (Number(input.max ?? input.exclusive_max) - Number(input.min ?? input.exclusive_min)) / stepOf(input);
}

/**
 * True for an input that decides what is random.
 * @param {InputSpec} input
 */
export function isSeed({ name, port, control_after_generate: isControlled, file, choices }) {
  return port === "INT" && !file && !choices && (Boolean(isControlled) || name === "seed" || name === "noise_seed");
}

/**
 * The seed of the next run, within the limits of its input: drawn, or one more or less, around at the ends.
 * @param {InputSpec} input
 * @param {any} seed
 * @param {SeedMode} mode
 * @returns {Num}
 */
export function nextSeed(input, seed, mode) {
  const least = BigInt(input.min ?? 0);
  const most = BigInt(input.max ?? LARGEST_SEED);
  if (mode === "fixed") return seed;
  if (mode === "random") return drawn(least < 0n ? 0n : least, most);
  const next = wholeOf(seed) + (mode === "increment" ? 1n : -1n);
  return narrow(next > most ? least : next < least ? most : next);
}

/** @param {bigint} least @param {bigint} most */
function drawn(least, most) {
  const count = most - least + 1n < BigInt(LARGEST_SEED) ? most - least + 1n : BigInt(LARGEST_SEED);
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return narrow(least + (((BigInt(high) << 32n) + BigInt(low)) % count));
}

/** @param {InputSpec} input @param {Num} value */
function refusal(input, value) {
  const { min, max, exclusive_min: above, exclusive_max: below, multiple_of: unit } = input;
  if (min !== undefined && value < min) return `${value} is too small: ${limits(input)}`;
  if (above !== undefined && value <= above) return `${value} is too small: ${limits(input)}`;
  if (max !== undefined && value > max) return `${value} is too large: ${limits(input)}`;
  if (below !== undefined && value >= below) return `${value} is too large: ${limits(input)}`;
  if (unit === undefined || isMultiple(value, unit)) return "";
  const lower = Math.floor(Number(value) / Number(unit)) * Number(unit);
  return `${value} is no multiple of ${unit}; ${tidy(lower)} and ${tidy(lower + Number(unit))} are`;
}

/** @param {Num} value @param {Num} unit */
function isMultiple(value, unit) {
  if (typeof value === "bigint") return value % BigInt(unit) === 0n;
  const times = value / Number(unit);
  return Math.abs(times - Math.round(times)) < 1e-9;
}

/** @param {InputSpec} input @param {Num} value @param {number} grain @returns {Num} */
function within({ min, max, exclusive_min: above, exclusive_max: below, multiple_of: unit }, value, grain) {
  let found = value;
  if (unit !== undefined && !isMultiple(found, unit)) found = tidy(Math.round(Number(found) / Number(unit)) * Number(unit));
  if (min !== undefined && found < min) found = min;
  if (max !== undefined && found > max) found = max;
  if (above !== undefined && found <= above) found = tidy(Number(above) + grain);
  if (below !== undefined && found >= below) found = tidy(Number(below) - grain);
  return found;
}

/** @param {InputSpec} input */
const stepOf = (input) => Number(input.step || input.multiple_of || (input.port === "INT" ? 1 : 0.01));

/** The least that a value is moved by. @param {InputSpec} input @param {number} fine */
function grainOf(input, fine) {
  if (input.port !== "INT") return Math.max(stepOf(input) * fine, input.round || 0);
  const unit = Number(input.multiple_of ?? (stepOf(input) % GRID === 0 ? stepOf(input) : 1)); // sides of pictures stay on their grid
  return Math.max(unit, Math.round((stepOf(input) * fine) / unit) * unit);
}

/** @param {InputSpec} input @param {number} value */
const rounded = ({ round }, value) => (round ? tidy(Math.round(value / round) * round) : value);

/** A number as a whole one; 0 for what is none. @param {any} value */
const wholeOf = (value) => (typeof value === "bigint" ? value : BigInt(Math.round(Number(value)) || 0));

/** A number without the dust of binary fractions. @param {number} value */
const tidy = (value) => (Number.isInteger(value) ? value : Number(value.toPrecision(DIGITS)));
