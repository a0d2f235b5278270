/** How much words of a prompt weigh: `(word:1.1)`, changed by a key. Pure. */

const STEP = 0.05;
const WEIGHED = /^\((.*?)(?::(-?\d*\.?\d+))?\)$/s;

/**
 * A prompt with more or less weight on what is selected, or else on the brackets or the word around the caret.
 * @param {string} text
 * @param {number} start of the selection
 * @param {number} end of it
 * @param {1 | -1} sign
 * @returns {{from: number, to: number, insert: string, start: number, end: number} | null} what to put in place of which
 *   part, and the selection after it; null where there is no word
 */
export function weighed(text, start, end, sign) {
  const [from, to] = start === end ? around(text, start) : trimmed(text, start, end);
  if (from === to) return null;
  const [inner, weight] = partsOf(text.slice(from, to));
  const next = Math.round((weight + sign * STEP) * 100) / 100;
  const insert = next === 1 ? inner : `(${inner}:${next})`;
  return { from, to, insert, start: from, end: from + insert.length };
}

/** @param {string} part @returns {[string, number]} */
function partsOf(part) {
  const found = WEIGHED.exec(part);
  if (!found || !isOnePair(part)) return [part, 1];
  return [found[1], found[2] === undefined ? 1.1 : Number(found[2])];
}

/** True when the first bracket is closed by the last. @param {string} part */
function isOnePair(part) {
  let depth = 0;
  for (let at = 0; at < part.length; at += 1) {
    depth += deeper(part, at);
    if (depth === 0) return at === part.length - 1;
  }
  return false;
}

/**
 * The innermost brackets around a caret, or its word.
 * @param {string} text
 * @param {number} caret
 * @returns {[number, number]}
 */
function around(text, caret) {
  let [from, depth] = [caret - 1, 0];
  for (; from >= 0 && !(depth === 0 && deeper(text, from) === 1); from -= 1) depth -= deeper(text, from);
  let to = caret;
  for (depth = 0; to < text.length && !(depth === 0 && deeper(text, to) === -1); to += 1) depth += deeper(text, to);
  if (from >= 0 && to < text.length) return [from, to + 1];
  const before = /[^\s,.()]*$/.exec(text.slice(0, caret))?.[0].length ?? 0;
  const after = /^[^\s,.()]*/.exec(text.slice(caret))?.[0].length ?? 0;
  return [caret - before, caret + after];
}

/**
 * A selection without blanks at its ends, with the brackets that are right around it.
 * @param {string} text
 * @param {number} start
 * @param {number} end
 * @returns {[number, number]}
 */
function trimmed(text, start, end) {
  const part = text.slice(start, end);
  const from = start + (part.length - part.trimStart().length);
  const to = end - (part.length - part.trimEnd().length);
  const closing = /^(?::-?\d*\.?\d+)?\)/.exec(text.slice(to));
  return from > 0 && deeper(text, from - 1) === 1 && closing && from < to ? [from - 1, to + closing[0].length] : [from, Math.max(from, to)];
}

/** 1 for an opening bracket, -1 for a closing one, 0 for all else and what is escaped. @param {string} text @param {number} at */
function deeper(text, at) {
  if (text[at - 1] === "\\") return 0;
  return text[at] === "(" ? 1 : text[at] === ")" ? -1 : 0;
}
