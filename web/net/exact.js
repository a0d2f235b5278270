/** JSON with whole numbers as they are: those that a browser's numbers round, such as large seeds, are BigInt. */

const MARK = `exact${Math.random().toString(36).slice(2)}:`;
const LONG = /\d{16}/;
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*/g;
const MARKED = new RegExp(`"${MARK}(-?\\d+)"`, "g");

/** JSON.stringify throws at a BigInt otherwise, wherever documents are compared or shown by it. */
Object.defineProperty(BigInt.prototype, "toJSON", {
  configurable: true,
  value() {
    return "rawJSON" in JSON ? /** @type {any} */ (JSON).rawJSON(String(this)) : Number(this);
  },
});

/**
 * Reads JSON; whole numbers beyond 2^53 become BigInt.
 * @param {string} text
 * @returns {any}
 */
export function parse(text) {
  if (!LONG.test(text)) return JSON.parse(text);
  const marked = text.replace(TOKEN, (token) => (isRounded(token) ? `"${MARK}${token}"` : token));
  return JSON.parse(marked, (_, value) => (typeof value === "string" && value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value));
}

/**
 * Writes JSON; BigInt are written as the whole numbers that they are.
 * @param {any} value
 * @param {number} [indent]
 * @returns {string}
 */
export function stringify(value, indent) {
  const marked = JSON.stringify(value, mark, indent);
  return marked.replace(MARKED, "$1");
}

/**
 * A whole number in the smallest shape that holds it exactly.
 * @param {bigint} number
 * @returns {number | bigint}
 */
export function narrow(number) {
  return Number.isSafeInteger(Number(number)) ? Number(number) : number;
}

/** @this {any} @param {string} key @param {any} value */
function mark(key, value) {
  return typeof this[key] === "bigint" ? `${MARK}${this[key]}` : value;
}

/** @param {string} token */
function isRounded(token) {
  return /^-?\d{16,}$/.test(token) && !Number.isSafeInteger(Number(token));
}
