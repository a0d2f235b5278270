/** Cards of runs: one that runs, one that waits, one that is over. */

import { html, memo, useStoreWithEqualityFn } from "../vendor/flow.js";
import { Icon } from "../icons.js";
import { post } from "../net/api.js";
import { nodeTitle } from "../state/naming.js";
import { partOf } from "../state/progress.js";
import { cancel } from "../state/running.js";
import { useApp } from "../state/use.js";
import { ago, duration } from "../words.js";

/** @import {App} from "../state/app.js" */
/** @import {FileView} from "../state/progress.js" */

const STATES = /** @type {Record<string, string>} */ ({ success: "Done", error: "Failed", cancelled: "Cancelled" });
const THUMBS = 4;

/** A run under way: its picture so far, the node at work and how far it is. */
export const RunningCard = memo(function RunningCard(/** @type {{run: any, isMine: boolean}} */ { run, isMine }) {
  const app = useApp();
  const progress = useStoreWithEqualityFn(app.runs.live, (live) => live[run.id]);
  const part = partOf(progress);
  const left = progress?.secondsLeft === undefined ? "" : ` · ${duration(Math.ceil(progress.secondsLeft))}`;
  const node = progress?.node ? nodeTitle(app, run, progress.node, progress.type) : "";
  const steps = progress?.total ? ` ${progress.step} / ${progress.total}${left}` : "";
  const title = titleOf(run);
  return html`<li class="card is-running">
    <span class="card-thumb">${progress?.preview && html`<img src=${progress.preview} alt="preview" />`}</span>
    <span class="card-text"><${Name} title=${title} isMine=${isMine} />
      <span class="quiet card-line">${node ? `${node}${steps}` : "starting"}</span>
      <progress class="card-progress" max="1" value=${part ?? undefined} aria-label=${`progress of ${title}`}></progress>
    </span>
    <${IconButton} icon="close" label=${`Cancel ${title}`} onPress=${() => void cancel(app, run)} />
  </li>`;
});

/**
 * A run that waits: its place in line, and the ways to move it.
 * @param {{run: any, place: number, isMine: boolean, isFirst: boolean, isLast: boolean, isDraggedOver: boolean,
 *   onMove: (run: any, to: number) => void, drag: Record<string, any>}} props
 */
export function WaitingCard({ run, place, isMine, isFirst, isLast, isDraggedOver, onMove, drag }) {
  const app = useApp();
  const title = titleOf(run);
  const mayMove = app.store.getState().me.scope !== "run";
  return html`<li class=${`card is-queued ${isDraggedOver ? "is-over" : ""}`} data-run=${run.id} draggable=${mayMove} ...${drag}>
    <span class="card-place">${place + 1}</span>
    <span class="card-text"><${Name} title=${title} isMine=${isMine} /><span class="quiet card-line">${place ? `${place} before it` : "next"}</span></span>
    <span class="card-buttons">
      ${mayMove && html`
        <${IconButton} icon="first" label=${`Put ${title} in front`} isOff=${isFirst} onPress=${() => onMove(run, 0)} />
        <${IconButton} icon="up" label=${`Move ${title} up`} isOff=${isFirst} onPress=${() => onMove(run, place - 1)} />
        <${IconButton} icon="down" label=${`Move ${title} down`} isOff=${isLast} onPress=${() => onMove(run, place + 1)} />`}
      <${IconButton} icon="close" label=${`Cancel ${title}`} onPress=${() => void cancel(app, run)} />
    </span>
  </li>`;
}

/** A run that is over: how it went, its pictures, and what can be done with it. */
export const RecentCard = memo(function RecentCard(/** @type {{run: any, isMine: boolean}} */ { run, isMine }) {
  const app = useApp();
  const title = titleOf(run);
  const pictures = run.files.filter((/** @type {FileView} */ file) => ["png", "jpg", "jpeg", "webp", "gif"].includes(file.format));
  const took = run.seconds === null ? "" : ` in ${duration(run.seconds)}`;
  return html`<li class=${`card is-over is-${run.status}`}>
    <div class="card-row">
      <span class="card-text"><${Name} title=${title} isMine=${isMine} />
        <span class="quiet card-line"><span class="card-status">${STATES[run.status]}</span>${`${took} · ${ago(run.finished ?? run.created)}`}</span></span>
      <span class="card-buttons">
        <${IconButton} icon="retry" label=${`Retry ${title}`} onPress=${() => void retry(app, run)} />
        <${IconButton} icon="graph" label=${`Open the workflow of ${title}`} onPress=${() => void import("../state/opening.js").then(({ openPlaced }) => openPlaced(app, { run: run.id }))} />
        <${IconButton} icon="more" label=${`Details of ${title}`} onPress=${() => app.show({ kind: "run", run: run.id })} />
      </span>
    </div>
    ${run.error && html`<p class="card-error">${run.error.message.split("\n")[0]}</p>`}
    ${pictures.length > 0 && html`<div class="card-thumbs">
      ${pictures.slice(0, THUMBS).map((/** @type {FileView} */ file) => html`<button key=${file.url} class="card-picture" aria-label=${`open ${file.filename}`} onClick=${() => app.show({ kind: "viewer", files: pictures, file })}>
        <img src=${`${file.url}?format=webp&size=128`} alt="" loading="lazy" /></button>`)}
      ${pictures.length > THUMBS && html`<span class="quiet">${`and ${pictures.length - THUMBS} more`}</span>`}
    </div>`}
  </li>`;
});

/**
 * Runs a run's workflow again.
 * @param {App} app
 * @param {{url: string, client: string}} run
 */
export async function retry(app, run) {
  try {
    const { id } = await post(`${run.url}/retry`);
    app.runs.expect(id, run.client);
    app.announce("It is in the queue again.");
  } catch (error) {
    app.tellError(error, "Not retried");
  }
}

/** @param {{workflow: string}} run */
const titleOf = ({ workflow }) => workflow || "Untitled";

/** @param {{title: string, isMine: boolean}} props */
function Name({ title, isMine }) {
  return html`<strong class="card-name" title=${isMine ? "of this tab" : undefined}>${isMine && html`<span class="card-mine"><span class="visually-hidden">This tab: </span></span>`}${title}</strong>`;
}

/** @param {{icon: any, label: string, isOff?: boolean, onPress: () => void}} props */
function IconButton({ icon, label, isOff = false, onPress }) {
  return html`<button class="card-button" aria-label=${label} title=${label} disabled=${isOff} onClick=${onPress}><${Icon} name=${icon} /></button>`;
}
