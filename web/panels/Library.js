/** The library: the workflows that ship, own ones, and drafts. */

import { html, useMemo, useState } from "../vendor/flow.js";
import { fuzzysort } from "../vendor/search.js";
import { Icon } from "../icons.js";
import { STARTERS, openWorkflow } from "../state/library.js";
import { pickFiles } from "../state/opening.js";
import { save } from "../state/saving.js";
import { useApp, useAppState } from "../state/use.js";
import { ago, count } from "../words.js";
import { workflowMenu } from "./documentMenus.js";
import { useDrafts, useWorkflows } from "./useLibrary.js";
import { WorkflowCard } from "./WorkflowCard.js";

/** @import {DraftShown} from "./useLibrary.js" */
/** @import {WorkflowEntry} from "../state/library.js" */

const KEYS = ["name", "title", "doc"];
const LEAST_SCORE = 0.4;

/** The panel. */
export function Library() {
  const app = useApp();
  const [query, setQuery] = useState("");
  const entries = useWorkflows();
  const { drafts, read } = useDrafts();
  const canSave = useAppState((state) => state.me.scope !== "run");
  const found = useMemo(() => searched(entries ?? [], query), [entries, query]);
  const foundDrafts = useMemo(() => searched(drafts, query), [drafts, query]);
  return html`<div class="library">
    <div class="library-actions">
      <button class="button" onClick=${() => pickFiles(app)}><${Icon} name="folder" />Open file…</button>
      ${canSave && html`<button class="button" onClick=${() => save(app)}>Save <kbd>Ctrl S</kbd></button>`}
    </div>
    <label class="library-search"><${Icon} name="search" /><span class="visually-hidden">Search workflows</span>
      <input type="search" class="field" placeholder="Search workflows" value=${query} onInput=${(/** @type {any} */ event) => setQuery(event.target.value)} /></label>
    <${Section} title="Gallery of workflows" entries=${found.filter((entry) => !entry.is_own).sort(byUse)} />
    <${Section} title="My workflows" entries=${found.filter((entry) => entry.is_own)} />
    ${foundDrafts.length > 0 && html`<section aria-label="Drafts"><h3>Drafts</h3><ul class="draft-list">${foundDrafts.map((draft) => html`
      <${DraftRow} key=${draft.id} draft=${draft} onGone=${read} />`)}</ul></section>`}
    ${entries && !found.length && !foundDrafts.length && html`<p class="empty">Nothing is called "${query}".</p>`}
  </div>`;
}

/** @param {{title: string, entries: WorkflowEntry[]}} props */
function Section({ title, entries }) {
  const app = useApp();
  if (!entries.length) return null;
  const open = (/** @type {string} */ name) => openWorkflow(app, name).catch((error) => app.tellError(error, `"${name}" cannot be opened`));
  return html`<section aria-label=${title}><h3>${title}</h3><ul class="workflow-grid">${entries.map((entry) => html`
    <${WorkflowCard} key=${entry.name} entry=${entry} onOpen=${() => open(entry.name)}>
      <button class="button is-icon workflow-more" aria-label=${`more of ${entry.name}`} aria-haspopup="menu"
        onClick=${(/** @type {any} */ event) => workflowMenu(app, entry, event.currentTarget)}><${Icon} name="more" /></button>
    <//>`)}</ul></section>`;
}

/** @param {{draft: DraftShown, onGone: () => void}} props */
function DraftRow({ draft, onGone }) {
  const app = useApp();
  const { id, name, nodes, modified, entry, record } = draft;
  const forget = async () => {
    const kept = record ?? await app.drafts.fetch(id);
    await app.drafts.forget(id, entry?.revision ?? 0);
    onGone();
    app.toast(`The draft "${name}" is deleted.`, "note", { label: "Undo", run: () => void app.drafts.open({ ...kept, revision: 0, isKnown: false }, undefined) });
  };
  return html`<li class="draft-row">
    <button class="draft-open" onClick=${() => app.drafts.pick(record, entry).catch((error) => app.tellError(error))}>
      <strong>${name || "Untitled"}</strong><span class="quiet">${count(nodes, "node")} · ${ago(modified)}</span></button>
    <button class="button is-quiet is-icon" aria-label=${`delete the draft ${name}`} onClick=${() => forget().catch((error) => app.tellError(error))}><${Icon} name="close" /></button>
  </li>`;
}

/** @param {WorkflowEntry} one @param {WorkflowEntry} other */
function byUse(one, other) {
  const place = (/** @type {WorkflowEntry} */ { name }) => (STARTERS.includes(name) ? STARTERS.indexOf(name) : STARTERS.length);
  return place(one) - place(other);
}

/**
 * @template {object} T
 * @param {T[]} entries
 * @param {string} query
 * @returns {T[]}
 */
function searched(entries, query) {
  return query.trim() ? fuzzysort.go(query, entries, { keys: KEYS, threshold: LEAST_SCORE }).map(({ obj }) => obj) : entries;
}
