/** Names of files and choices, and those nearest to one that is not there. Pure. */

const NEAR = 0.3; // share of pairs of letters that a near name has in common

/**
 * The names most like one that is not there.
 * @param {string} name
 * @param {readonly string[]} names
 * @param {number} [most]
 */
export function nearest(name, names, most = 3) {
  const wanted = pairs(name);
  const likeness = (/** @type {string} */ other) => {
    const given = pairs(other);
    const common = [...wanted].filter((pair) => given.has(pair)).length;
    return (2 * common) / Math.max(1, wanted.size + given.size);
  };
  return names.map((other) => ({ other, score: likeness(other) }))
    .filter(({ score }) => score >= NEAR)
    .sort((one, other) => other.score - one.score)
    .slice(0, most)
    .map(({ other }) => other);
}

/**
 * A name in its folder -> the folder with its slash, and the rest.
 * @param {string} name
 * @returns {[string, string]}
 */
export function parted(name) {
  const end = Math.max(name.lastIndexOf("/"), name.lastIndexOf("\\")) + 1;
  return [name.slice(0, end), name.slice(end)];
}

/** The pairs of letters of a name without folder and ending. @param {string} name */
function pairs(name) {
  const letters = parted(name)[1].replace(/\.\w+$/, "").toLowerCase().replace(/[^\p{L}\d]/gu, "");
  return new Set(Array.from({ length: Math.max(0, letters.length - 1) }, (_, at) => letters.slice(at, at + 2)));
}
