/** What runs tell, gathered: what became of each node of a tab. Pure. */

/** @import {Told} from "../net/socket.js" */

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
 * @property {string} [preview] address of a picture of work under way
 * @property {FileView[]} [files]
 * @property {string[]} [texts]
 *
 * @typedef {object} RunView a run as its tab shows it
 * @property {string} run
 * @property {"queued" | "running" | "success" | "error" | "cancelled"} status
 * @property {string} [error]
 * @property {number} [nodesPlanned]
 * @property {Record<string, NodeRun>} nodes by id of the document
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
  if (type === "RunLeased" || type === "RunStarted") {
    return { ...view, status: "running", nodesPlanned: event.nodes ?? view.nodesPlanned };
  }
  if (type === "RunRetried") return { ...view, status: "queued" };
  if (type === "RunOver") return { ...view, status: event.status, error: messageOf(event.error), nodes: ended(view.nodes) };
  if (!node) return view;
  const changed = nodeAfter(view.nodes[node], event, preview);
  return changed ? { ...view, nodes: { ...view.nodes, [node]: changed } } : view;
}

/**
 * The views of nodes from a run as `/v1/runs/{id}` has it, with what was seen of them before.
 * @param {any} run
 * @param {(id: string) => string | null} shown the node of the document that stands for a node of the run
 * @param {Record<string, NodeRun>} [before]
 * @returns {RunView}
 */
export function viewOf(run, shown, before = {}) {
  /** @type {Record<string, NodeRun>} */
  const nodes = { ...before };
  for (const item of run.nodes) {
    const id = shown(item.node);
    if (id === null) continue;
    const { state, why, tier, seconds, bytes } = item;
    const isOver = ["success", "error", "cancelled"].includes(run.status);
    nodes[id] = { ...nodes[id], state: state === "running" && isOver ? "waiting" : state, why, tier, seconds, bytes, files: [], texts: textsOf(run, item.node) };
  }
  for (const file of run.files) {
    const id = shown(file.node);
    if (id !== null) nodes[id] = { ...(nodes[id] ?? { state: "cached" }), files: [...(nodes[id]?.files ?? []), file] };
  }
  const failed = run.error?.node ? shown(run.error.node) : null;
  if (failed !== null) nodes[failed] = { ...nodes[failed], state: "failed", message: run.error.message };
  return { run: run.id, status: run.status, error: run.error?.message, nodes };
}

/**
 * @param {NodeRun | undefined} old
 * @param {Told} event
 * @param {string} [preview]
 * @returns {NodeRun | null} null when nothing changes
 */
function nodeAfter(old, event, preview) {
  const kept = { files: old?.files, texts: old?.texts };
  switch (event.type) {
    case "NodeCached":
      return { ...kept, state: "cached", tier: event.tier };
    case "NodeStarted":
      return { ...kept, state: "running", why: event.why, files: undefined, texts: undefined };
    case "NodeProgress":
      return { ...old, state: "running", step: event.step, total: event.total, perSecond: event.per_second, secondsLeft: event.seconds_left };
    case "NodePreview":
      return { ...old, state: old?.state ?? "running", preview };
    case "NodeFinished":
      return { ...kept, state: "ran", why: old?.why, seconds: event.seconds, bytes: event.nbytes };
    case "Saved": {
      const { filename } = event.file;
      const files = (old?.files ?? []).filter((file) => file.filename !== filename);
      return { ...(old ?? { state: "cached" }), files: [...files, { ...event.file, bytes: event.file.nbytes, node: event.node, url: fileUrl(event.file) }] };
    }
    case "Shown":
      return { ...(old ?? { state: "cached" }), texts: [...(old?.texts ?? []), event.text] };
    case "NodeFailed":
      return { ...kept, state: "failed", why: old?.why, message: event.message };
    case "NodeBlocked":
      return { ...kept, state: "blocked", message: `it needs node ${event.because}, which failed` };
    default:
      return null;
  }
}

/**
 * The address of a file that a run saved.
 * @param {{type: string, subfolder: string, filename: string}} file
 */
export function fileUrl({ type, subfolder, filename }) {
  return ["/v1/files", type, ...subfolder.split("/").filter(Boolean).map(encodeURIComponent), encodeURIComponent(filename)].join("/");
}

/** @param {Record<string, NodeRun>} nodes @returns {Record<string, NodeRun>} */
function ended(nodes) {
  return Object.fromEntries(Object.entries(nodes).map(([id, node]) => (
    [id, node.state === "running" ? { ...node, state: "waiting", step: undefined, preview: undefined } : node]
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
