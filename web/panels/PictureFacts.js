/** What is known of a picture: its run, what it was made with, and where the time went. */

import { html, useEffect, useState } from "../vendor/flow.js";
import { ApiError, get } from "../net/api.js";
import { titleOf } from "../graph/ports.js";
import { madeWith } from "../graph/summary.js";
import { withRun, workflowOf } from "../state/pictures.js";
import { shownNode } from "../state/shown.js";
import { useApp } from "../state/use.js";
import { ago, duration, size } from "../words.js";

/** @import {Doc} from "../graph/types.js" */
/** @import {Picture} from "../state/pictures.js" */

/** @param {{file: Picture}} props */
export function PictureFacts({ file }) {
  const app = useApp();
  const [known, setKnown] = useState(/** @type {{run?: any, doc?: Doc, missing?: string}} */ ({}));
  useEffect(() => {
    let isHere = true;
    read(file)
      .catch((error) => {
        if (!(error instanceof ApiError)) throw error;
        return { missing: error.message };
      })
      .then((found) => isHere && setKnown(found));
    return () => {
      isHere = false;
    };
  }, [file]);
  const { run, doc, missing } = known;
  const found = doc && madeWith(doc, app.specs, shownNode(doc, file.node) ?? "");
  return html`<div class="facts">
    <dl class="fact-list">
      ${run && html`<${Fact} name="workflow" value=${run.workflow || "Untitled"} />`}
      ${run && html`<${Fact} name="when" value=${html`<time dateTime=${run.created} title=${new Date(run.created).toLocaleString()}>${ago(run.created)}</time>`} />`}
      ${run?.seconds != null && html`<${Fact} name="took" value=${duration(run.seconds)} />`}
      <${Fact} name="file" value=${`${file.format}, ${size(file.bytes)}${file.type === "temp" ? ", not kept" : ""}`} />
    </dl>
    ${missing && html`<p class="quiet">${missing}</p>`}
    ${found?.prompts.map((one) => html`<section key=${`${one.node}.${one.input}`}><h3 class="fact-heading">${one.title}</h3><p class="fact-prompt">${String(one.value)}</p></section>`)}
    ${found && found.values.length > 0 && html`<section><h3 class="fact-heading">Values</h3>
      <dl class="fact-list">${found.values.map((one) => html`<${Fact} key=${`${one.node}.${one.input}`} name=${one.input.replaceAll("_", " ")} value=${String(one.value)} title=${one.title} />`)}</dl></section>`}
    ${run && doc && html`<${Times} run=${run} doc=${doc} />`}
  </div>`;
}

/** @param {{name: string, value: any, title?: string}} props */
function Fact({ name, value, title }) {
  return html`<div class="fact" title=${title}><dt>${name}</dt><dd>${value}</dd></div>`;
}

/** How long each node took, the longest first. @param {{run: any, doc: Doc}} props */
function Times({ run, doc }) {
  const app = useApp();
  const nodes = run.nodes.filter((/** @type {any} */ one) => shownNode(doc, one.node)).sort((/** @type {any} */ one, /** @type {any} */ other) => (other.seconds ?? 0) - (one.seconds ?? 0));
  const longest = nodes[0]?.seconds || 1;
  return html`<section><h3 class="fact-heading">Time</h3>
    <ul class="time-list">${nodes.map((/** @type {any} */ one) => html`<li key=${one.node} title=${one.why ? `Why it ran: ${one.why}` : ""}>
      <span class="time-name">${titleOf(doc, app.specs, /** @type {string} */ (shownNode(doc, one.node)))}</span>
      <meter class="time-bar" min=${0} max=${longest} value=${one.seconds ?? 0} aria-hidden="true"></meter>
      <span class="quiet">${one.state === "ran" ? duration(one.seconds) : one.state}</span></li>`)}</ul></section>`;
}

/** @param {Picture} file */
async function read(file) {
  const { run } = await withRun(file);
  if (!run) return { doc: (await workflowOf(file)).document };
  const [found, { document: doc }] = await Promise.all([get(`/v1/runs/${encodeURIComponent(run)}`), workflowOf({ ...file, run })]);
  return { run: found, doc };
}
