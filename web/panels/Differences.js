/** What the workflows of two pictures differ in, as a table. */

import { html, useEffect, useMemo, useState } from "../vendor/flow.js";
import { ApiError } from "../net/api.js";
import { countOf, diffOf, wordsOf } from "../graph/diff.js";
import { workflowOf } from "../state/pictures.js";
import { useApp } from "../state/use.js";
import { count } from "../words.js";

/** @import {Change, NodeName} from "../graph/diff.js" */
/** @import {Doc} from "../graph/types.js" */
/** @import {Picture} from "../state/pictures.js" */

/** @param {{left: Picture, right: Picture}} props */
export function Differences({ left, right }) {
  const app = useApp();
  const [docs, setDocs] = useState(/** @type {{pair?: [Doc, Doc], missing?: string}} */ ({}));
  useEffect(() => {
    let isHere = true;
    Promise.all([workflowOf(left), workflowOf(right)])
      .then(([one, other]) => isHere && setDocs({ pair: [one.document, other.document] }))
      .catch((error) => {
        if (!(error instanceof ApiError)) throw error;
        if (isHere) setDocs({ missing: error.message });
      });
    return () => {
      isHere = false;
    };
  }, [left, right]);
  const diff = useMemo(() => docs.pair && diffOf(docs.pair[0], docs.pair[1], app.specs), [app, docs]);
  if (!diff) return html`<section class="differences"><p class="empty" role="status">${docs.missing ?? "Reading the workflows"}</p></section>`;
  if (!countOf(diff)) return html`<section class="differences"><p class="empty" role="status">Both were made by the same workflow with the same values.</p></section>`;
  return html`<section class="differences" aria-label="differences of the workflows" tabIndex=${0}>
    <table class="difference-table">
      <caption>${count(countOf(diff), "difference")} of the workflows</caption>
      <thead><tr><th scope="col">Node</th><th scope="col">Input</th><th scope="col">${left.filename}</th><th scope="col">${right.filename}</th></tr></thead>
      <tbody>
        ${diff.values.map((change) => html`<${Row} key=${keyOf(change)} change=${change} />`)}
        ${diff.wires.map((change) => html`<${Row} key=${keyOf(change)} change=${change} isWire />`)}
        ${diff.removed.map((node) => html`<${Whole} key=${`- ${node.id}`} node=${node} />`)}
        ${diff.added.map((node) => html`<${Whole} key=${`+ ${node.id}`} node=${node} isNew />`)}
      </tbody>
    </table>
  </section>`;
}

/** A value or a wire. @param {{change: Change, isWire?: boolean}} props */
function Row({ change: { node, input, from, to }, isWire }) {
  const areTexts = typeof from === "string" && typeof to === "string" && /\s/.test(from + to) && !isWire;
  const pieces = areTexts ? wordsOf(from, to) : [];
  const cells = areTexts
    ? [pieces.filter(({ kind }) => kind !== "added"), pieces.filter(({ kind }) => kind !== "removed")].map((side) => side.map(({ kind, text }, place) => (
      kind === "same" ? text : html`<${kind === "added" ? "ins" : "del"} key=${place}>${text}<//>`)))
    : [inWords(from), inWords(to)];
  return html`<tr><th scope="row">${node.title} <span class="quiet">${node.id}</span></th><td>${input.replaceAll("_", " ")}${isWire && html`<span class="quiet"> wire</span>`}</td>
    <td class="difference-from">${cells[0]}</td><td class="difference-to">${cells[1]}</td></tr>`;
}

/** A node that only one has. @param {{node: NodeName, isNew?: boolean}} props */
function Whole({ node, isNew }) {
  return html`<tr><th scope="row">${node.title} <span class="quiet">${node.id}</span></th><td class="quiet">the node</td>
    <td class="difference-from">${isNew ? "–" : "there"}</td><td class="difference-to">${isNew ? "there" : "–"}</td></tr>`;
}

/** @param {any} value */
function inWords(value) {
  if (value === undefined) return "–";
  return typeof value === "string" ? value || "“”" : JSON.stringify(value);
}

/** @param {Change} change */
const keyOf = ({ node, input }) => `${node.id}.${input}`;
