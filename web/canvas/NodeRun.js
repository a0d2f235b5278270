/** What the last run did with a node: progress in its header, pictures and texts below its fields. */

import { html, useId } from "../vendor/flow.js";
import { withTitles } from "../state/naming.js";
import { goTo } from "../state/problems.js";
import { useApp, useNodeRun, useRun, useTab } from "../state/use.js";
import { duration, sentence, size } from "../words.js";

/** @import {Problem} from "../graph/types.js" */
/** @import {FileView, NodeRun} from "../state/progress.js" */

const PICTURES = ["png", "jpg", "jpeg", "webp", "gif", "avif"];
const MOST = 9; // pictures in a node

/**
 * The right end of a header: what is wrong, how far it is, or how it went; more of that where it is pointed at or has
 * the focus.
 * @param {{id: string, problems: Problem[], mode?: string}} props
 */
export function NodeStatus({ id, problems, mode }) {
  const app = useApp();
  const tab = useTab();
  const run = useNodeRun(id);
  const number = useRun((view) => view?.run);
  if (problems.length) {
    return html`<${Status} kind="wrong" short=${problems.length === 1 ? "1 problem" : `${problems.length} problems`}
      long=${problems.map((problem) => `${problem.input ? `${problem.input}: ` : ""}${sentence(problem)}`)} onPress=${() => goTo(app, problems[0])} />`;
  }
  if (mode) return html`<span class="node-status">${mode === "skip" ? "skipped" : "muted"}</span>`;
  if (!run || run.state === "waiting") return null;
  return html`<${Status} kind=${run.state} short=${inShort(run)} long=${explained(run, (text) => withTitles(app, tab, text))} onPress=${() => app.show({ kind: "run", run: number, node: id })} />
    ${run.state === "running" && html`<progress class="node-progress" max=${run.total ?? 1} value=${run.total ? run.step ?? 0 : undefined} aria-label="progress"></progress>`}`;
}

/** Pictures, files and texts of a node, what it had to say, and why it failed. @param {{id: string}} props */
export function NodeResults({ id }) {
  const app = useApp();
  const tab = useTab();
  const run = useNodeRun(id);
  const number = useRun((view) => view?.run);
  if (!run) return null;
  const { state, preview, files = [], texts = [], notes = [], message } = run;
  const pictures = files.filter(isPicture);
  const shows = preview && (state === "running" || !files.length);
  if (!shows && !files.length && !texts.length && !notes.length && !message) return null;
  const open = (/** @type {FileView} */ file) => app.show({ kind: "viewer", files: pictures, file });
  return html`<div class=${`node-results nodrag ${run.isOld && ["waiting", "running"].includes(state) ? "is-old" : ""}`}>
    ${message && html`<div class="node-failure"><p>${withTitles(app, tab, message.split("\n")[0])}</p>
      ${state === "failed" && html`<button class="button" onClick=${() => app.show({ kind: "run", run: number, node: id })}>Details</button>`}</div>`}
    ${notes.map((text) => html`<p key=${text} class="node-noted" title=${text}>${withTitles(app, tab, text)}</p>`)}
    ${shows ? html`<img class="node-picture is-preview" src=${preview} alt=${state === "running" ? "preview" : "last preview"} draggable=${false} />`
    : pictures.length > 0 && html`<${Pictures} pictures=${pictures} onOpen=${open} />`}
    ${!shows && files.filter((file) => !isPicture(file)).map((file) => html`<a key=${file.url} class="node-file" href=${file.url} download=${file.filename}>${file.filename}</a>`)}
    ${texts.map((text, place) => html`<pre key=${place} class="node-text nowheel nopan" tabIndex=${0}>${text}</pre>`)}
  </div>`;
}

/**
 * Pictures of a node; several are a grid. A new one takes the element of the old, so that nothing jumps.
 * @param {{pictures: FileView[], onOpen: (file: FileView) => void}} props
 */
function Pictures({ pictures, onOpen }) {
  const seen = pictures.slice(0, pictures.length > MOST ? MOST - 1 : MOST);
  const rest = pictures.length - seen.length;
  const side = seen.length > 1 ? 256 : 512;
  return html`<div class=${`node-pictures ${seen.length > 1 ? "is-many" : ""}`}>
    ${seen.map((file, place) => html`<button key=${place} class="node-picture-button" aria-label=${`open ${file.filename}`} onClick=${() => onOpen(file)}>
      <img class="node-picture" src=${`${file.url}?format=webp&size=${side}`} alt=${file.filename} draggable=${false} />
    </button>`)}
    ${rest > 0 && html`<button class="node-picture-button node-picture-rest" onClick=${() => onOpen(pictures[seen.length])}>${`+${rest}`}</button>`}
  </div>`;
}

/**
 * A word on a node, and what is behind it.
 * @param {{kind: string, short: string, long: string[], onPress: () => void}} props
 */
function Status({ kind, short, long, onPress }) {
  const id = useId();
  return html`<span class="node-status-place">
    <button class=${`node-status nodrag is-${kind}`} aria-describedby=${id} onClick=${onPress}>${short}</button>
    <span class="node-tip" role="tooltip" id=${id}>${long.map((line) => html`<span key=${line}>${line}</span>`)}</span>
  </span>`;
}

/** @param {{format: string}} file */
const isPicture = ({ format }) => PICTURES.includes(format);

/** @param {NodeRun} run */
function inShort(run) {
  if (run.state === "running") {
    const left = run.secondsLeft === undefined || run.secondsLeft === null ? "" : ` · ${duration(Math.ceil(run.secondsLeft))}`;
    return run.total ? `${run.step} / ${run.total}${left}` : "running";
  }
  if (run.state === "ran") return duration(run.seconds ?? 0);
  if (run.state === "cached") return run.tier === "disk" ? "from disk" : "cached";
  return run.state;
}

/** @param {NodeRun} run @param {(text: string) => string} named */
function explained(run, named) {
  const why = run.why && `Why it ran: ${named(run.why)}.`;
  const notes = (run.notes ?? []).map((note) => `Note: ${named(note)}.`);
  /** @type {(string | false | undefined | null)[]} */
  let lines = [];
  if (run.state === "failed" || run.state === "blocked") lines = [named(run.message ?? ""), why];
  else if (run.state === "cached") lines = [run.tier === "disk" ? "Not run: its result was read from the disk, as nothing it needs has changed." : "Not run: its result was still in memory, as nothing it needs has changed."];
  else if (run.state === "running") lines = [why, run.perSecond ? `${run.perSecond.toFixed(run.perSecond < 10 ? 1 : 0)} steps a second.` : null];
  else lines = [why, `It took ${duration(run.seconds ?? 0)} and made ${size(run.bytes ?? 0)}.`];
  return [...lines.filter((line) => typeof line === "string"), ...notes];
}
