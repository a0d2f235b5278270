/** What the server tells as it happens, over one WebSocket that comes back by itself. */

const PATIENCE_MS = [250, 500, 1000, 2000, 5000];

/**
 * @typedef {Record<string, any> & {type: string, run?: string, node?: string, number?: number}} Told an event as /v1/events has it
 *
 * @typedef {object} Listeners
 * @property {(event: Told, picture?: Blob) => void} onEvent
 * @property {() => void} onOpen it is open, perhaps again: what happened meanwhile has to be read
 * @property {() => void} onLost
 */

/**
 * Listens to the server until it is told to stop -> a function that stops.
 * @param {Listeners} listeners
 */
export function listen({ onEvent, onOpen, onLost }) {
  let tries = 0;
  let timer = 0;
  let isOver = false;
  /** @type {WebSocket | undefined} */
  let socket;

  const connect = () => {
    clearTimeout(timer);
    socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/socket`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      tries = 0;
      onOpen();
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") onEvent(JSON.parse(data));
      else onEvent(...picture(data));
    };
    socket.onclose = () => {
      if (isOver) return;
      if (tries === 0) onLost();
      timer = window.setTimeout(connect, PATIENCE_MS[Math.min(tries, PATIENCE_MS.length - 1)]);
      tries += 1;
    };
  };
  const now = () => socket?.readyState === WebSocket.CLOSED && !isOver && connect();
  window.addEventListener("online", now);
  document.addEventListener("visibilitychange", () => document.hidden || now());
  connect();
  return () => {
    isOver = true;
    clearTimeout(timer);
    socket?.close();
  };
}

/**
 * A binary frame: the length of a JSON head, the head, a picture.
 * @param {ArrayBuffer} frame
 * @returns {[Told, Blob]}
 */
function picture(frame) {
  const length = new DataView(frame).getUint32(0);
  const head = JSON.parse(new TextDecoder().decode(frame.slice(4, 4 + length)));
  return [head, new Blob([frame.slice(4 + length)], { type: `image/${head.format}` })];
}
