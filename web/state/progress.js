/** What runs tell, gathered: what became of each node of a tab, and how far each run is. Pure. */

/** @import {Told} from "../net/socket.js" */

export const OVER = ["success", "error", "cancelled"];

/**
 * @typedef {{node: string, type: string, subfolder: string, filename: string, format: string, bytes: number, url: string}} FileView
 *
 * @typedef {object} NodeRun what became of a node in the last run that had it
 * @property {"waiting" | "running" | "ran" | "cached" | "failed" | "blocked"} state
 * @property {string} [why] it ran
 * @property {string} [tier] where it was cached
 * @property {number} [step]
 * @property {number} [total]
 * @property {number} [perSecond]
 * @property {number} [secondsLeft]
 * @property {number} [seconds]
 * @property {number} [bytes]
 * @property {string} [message] why it failed
 * @property {string} [preview] address of a picture of its work, which stays until there is a newer one
 * @property {FileView[]} [files]
 * @property {string[]} [texts]
 * @property {string[]} [notes] what it had to say that is no error
 * @property {boolean} [isOld] its files and texts are of the run before: the first new one takes their place
 *
 * @typedef {object} RunView a run as its tab shows it
 * @property {string} run
 * @property {"queued" | "running" | "success" | "error" | "cancelled"} status
 * @property {string} [error]
 * @property {number} [nodesPlanned]
 * @property {Record<string, NodeRun>} nodes by id of the document
 *
 * @typedef {object} Progress how far a run is
 * @property {number} done nodes that ran or were cached
 * @property {number} [planned]
 * @property {string} [node] the one under way, as the run names it
 * @property {string} [type] its type
 * @property {number} [step] of it
 * @property {number} [total]
 * @property {number} [secondsLeft] for it
 * @property {string} [preview] address of a picture of work under way
 */

/**
 * The view after an event of its run.
 * @param {RunView} view
 * @param {Told} event its `node` being a node of the document
 * @param {string} [preview] address of the picture of a NodePreview
 * @returns {RunView}
 */
export function after(view, event, preview) {
  const { type, node } = event;
  if (type === "RunLeased") return { ...view, status: "running", nodes: begun(view) };
  if (type === "RunStarted") return { ...view, status: "running", nodesPlanned: event.nodes };
  if (type === "RunRetried") return { ...view, status: "queued", nodes: ended(view.nodes) };
  if (type === "RunOver") return { ...view, status: event.status, error: messageOf(event.error), nodes: ended(view.nodes) };
  if (!node) return view;
  const changed = nodeAfter(view.nodes[node], event, preview);
  return changed ? { ...view, nodes: { ...view.nodes, [node]: changed } } : view;
}

/**
 * What stays of the nodes of the run before when another begins: what they show, until there is something newer.
 * @param {RunView | undefined} view
 * @returns {Record<string, NodeRun>}
 */
export function begun(view) {
  return Object.fromEntries(Object.entries(view?.nodes ?? {}).map(([id, { files, texts, preview }]) => (
    [id, { state: "waiting", files, texts, preview, isOld: true }]
  )));
}

/**
 * The views of nodes from a run as `/v1/runs/{id}` has it, with what was seen of them before.
 * @param {any} run
 * @param {(id: string) => string | null} shown the node of the document that stands for a node of the run
 * @param {Record<string, NodeRun>} [before]
 * @returns {RunView}
 */
export function viewOf(run, shown, before = {}) {
  const nodes = { ...ended(before) };
  const isOver = OVER.includes(run.status);
  /** @type {Record<string, string[]>} */
  const notes = {};
  for (const item of run.nodes) {
    const id = shown(item.node);
    if (id === null) continue;
    notes[id] = (item.notes ?? []).reduce(withNew, notes[id] ?? []);
    const { state, why, tier, seconds, bytes } = item;
    const { preview, files, texts } = nodes[id] ?? {};
    const kept = isOver ? { files: [], texts: textsOf(run, item.node) } : { files, texts, isOld: true };
    nodes[id] = { ...kept, preview, state: state === "running" && isOver ? "waiting" : state, why, tier, seconds, bytes, notes: notes[id] };
    if (state === "blocked") nodes[id] = { ...nodes[id], why: undefined, message: `It cannot run: ${why}.` };
  }
  for (const file of run.files) {
    const id = shown(file.node);
    if (id === null) continue;
    const { isOld, files = [], ...rest } = nodes[id] ?? { state: "cached" };
    nodes[id] = { ...rest, files: [...(isOld ? [] : files), file] };
  }
  const failed = run.error?.node ? shown(run.error.node) : null;
  if (failed !== null) nodes[failed] = { ...nodes[failed], state: "failed", message: run.error.message };
  return { run: run.id, status: run.status, error: run.error?.message, nodes };
}

/**
 * How far a run is after an event of it.
 * @param {Progress | undefined} old
 * @param {Told} event
 * @param {string} [preview]
 * @returns {Progress}
 */
export function progressAfter(old = { done: 0 }, event, preview) {
  const { type, node } = event;
  switch (type) {
    case "RunLeased":
      return { done: 0 };
    case "RunStarted":
      return { ...old, planned: event.nodes };
    case "NodeStarted":
      return { ...rested(old), node, type: event.class_type };
    case "NodeProgress":
      return { ...old, node, step: event.step, total: event.total, secondsLeft: event.seconds_left ?? undefined };
    case "NodePreview":
      return { ...old, preview };
    case "NodeCached":
      return { ...old, done: old.done + 1 };
    case "NodeFinished":
      return { ...(node === old.node ? rested(old) : old), done: old.done + 1 };
    default:
      return old;
  }
}

/**
 * How far a run is, from what `/v1/runs/{id}` has of it.
 * @param {any} run
 * @returns {Progress}
 */
export function progressOf(run) {
  const going = run.nodes.findLast((/** @type {any} */ node) => node.state === "running");
  const done = run.nodes.filter((/** @type {any} */ node) => ["ran", "cached"].includes(node.state)).length;
  return { done, node: going?.node, type: going?.class_type };
}

/**
 * How much of a run is done, from 0 to 1; null where it is not known.
 * @param {Progress | undefined} progress
 */
export function partOf(progress) {
  if (!progress?.planned) return null;
  const step = progress.total ? (progress.step ?? 0) / progress.total : 0;
  return Math.min(1, (progress.done + step) / progress.planned);
}

/**
 * The address of a file that a run saved.
 * @param {{type: string, subfolder: string, filename: string}} file
 */
function fileUrl({ type, subfolder, filename }) {
  return ["/v1/files", type, ...subfolder.split("/").filter(Boolean).map(encodeURIComponent), encodeURIComponent(filename)].join("/");
}

/**
 * @param {NodeRun | undefined} old
 * @param {Told} event
 * @param {string} [preview]
 * @returns {NodeRun | null} null when nothing changes
 */
function nodeAfter(old, event, preview) {
  const kept = { files: old?.files, texts: old?.texts, preview: old?.preview, isOld: old?.isOld, notes: old?.notes };
  switch (event.type) {
    case "NodeCached":
      return { ...kept, isOld: true, preview: undefined, state: "cached", tier: event.tier };
    case "NodeStarted":
      return { ...kept, isOld: true, state: "running", why: event.why };
    case "NodeProgress":
      return { ...old, state: "running", step: event.step, total: event.total, perSecond: event.per_second, secondsLeft: event.seconds_left };
    case "NodePreview":
      return { ...old, state: old?.state ?? "running", preview };
    case "NodeFinished":
      return { ...kept, state: "ran", why: old?.why, seconds: event.seconds, bytes: event.nbytes };
    case "Saved": {
      const { files = [], texts } = fresh(old);
      const others = files.filter((file) => file.filename !== event.file.filename || file.subfolder !== event.file.subfolder);
      const file = { ...event.file, bytes: event.file.nbytes, node: event.node, url: fileUrl(event.file) };
      return { ...(old ?? { state: "cached" }), texts, isOld: false, files: [...others, file] };
    }
    case "Shown": {
      const { files, texts = [] } = fresh(old);
      return { ...(old ?? { state: "cached" }), files, isOld: false, texts: [...texts, event.text] };
    }
    case "Noted":
      return { ...(old ?? { state: "cached" }), notes: withNew(old?.notes ?? [], event.text) };
    case "NodeFailed":
      return { state: "failed", why: old?.why, notes: old?.notes, message: event.message };
    case "NodeBlocked":
      return { state: "blocked", message: `It cannot run: node ${event.because} failed.` };
    default:
      return null;
  }
}

/** @param {string[]} notes @param {string} text */
const withNew = (notes, text) => (notes.includes(text) ? notes : [...notes, text]);

/** What a node shows of this run. @param {NodeRun | undefined} old @returns {Partial<NodeRun>} */
const fresh = (old) => (old?.isOld ? {} : old ?? {});

/** @param {Progress} progress @returns {Progress} */
const rested = ({ done, planned }) => ({ done, planned });

/** Nodes of a run that goes no further. @param {Record<string, NodeRun>} nodes @returns {Record<string, NodeRun>} */
function ended(nodes) {
  return Object.fromEntries(Object.entries(nodes).map(([id, node]) => (
    [id, node.state === "running" ? { ...node, state: "waiting", step: undefined, total: undefined } : node]
  )));
}

/** @param {any} error */
function messageOf(error) {
  return typeof error === "string" ? error : error?.message;
}

/** @param {any} run @param {string} node @returns {string[]} */
function textsOf(run, node) {
  return run.outputs?.[node]?.text ?? [];
}
