/** Pictures of work under way, as addresses that are given back when there is a newer one. */

const MOST = 150; // that are kept at once
const WAIT_MS = 1000; // the picture in the place of an old one may not be drawn yet

/**
 * Keeps one picture for each node of each client.
 * @param {(client: string, node: string) => void} onGone told when the oldest of too many went
 */
export function createPreviews(onGone) {
  /** @type {Map<string, {client: string, node: string, address: string}>} the oldest first */
  const kept = new Map();

  /** @param {string} client @param {string} node */
  function drop(client, node) {
    const key = `${client} ${node}`;
    const old = kept.get(key);
    if (!old) return;
    kept.delete(key);
    window.setTimeout(() => URL.revokeObjectURL(old.address), WAIT_MS);
  }

  return {
    drop,
    /**
     * Keeps a picture in place of the one before -> its address.
     * @param {string} client
     * @param {string} node
     * @param {Blob} picture
     */
    keep(client, node, picture) {
      drop(client, node);
      const address = URL.createObjectURL(picture);
      kept.set(`${client} ${node}`, { client, node, address });
      const [oldest] = kept.values();
      if (kept.size > MOST) {
        drop(oldest.client, oldest.node);
        window.setTimeout(() => onGone(oldest.client, oldest.node), 0); // not while the views change
      }
      return address;
    },
    /**
     * Drops all pictures of a client.
     * @param {string} client
     */
    dropAll(client) {
      for (const one of [...kept.values()]) if (one.client === client) drop(one.client, one.node);
    },
  };
}
