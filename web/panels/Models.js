/** The models at hand by kind and family, and those that the workflow names and that are not there. */

import { html, useEffect, useMemo, useState } from "../vendor/flow.js";
import { get } from "../net/api.js";
import { addNode, setValue } from "../graph/document.js";
import { inWords } from "../graph/form.js";
import { useApp, useAppState } from "../state/use.js";
import { size } from "../words.js";
import { Icon } from "../icons.js";

/** @import {App} from "../state/app.js" */
/** @import {Problem, Spec} from "../graph/types.js" */

/**
 * @typedef {{name: string, bytes: number, modified: string | null, family: string | null, picture: string | null}} Model
 */

/** The panel. */
export function Models() {
  const app = useApp();
  const files = useAppState((state) => state.specs.files);
  const [kinds, setKinds] = useState(/** @type {{kind: string, models: number}[]} */ ([]));
  const [kind, setKind] = useState("checkpoints");
  useEffect(() => {
    get("/v1/models").then((body) => setKinds(body.kinds)).catch((error) => app.tellError(error));
  }, [app, files]);
  return html`<div class="models">
    <${Missing} />
    <label class="models-kind">Kind
      <select class="field" value=${kind} onChange=${(/** @type {any} */ event) => setKind(event.target.value)}>
        ${kinds.map((item) => html`<option key=${item.kind} value=${item.kind}>${inWords(item.kind)} (${item.models})</option>`)}
      </select></label>
    <${Kind} key=${kind} kind=${kind} />
  </div>`;
}

/** The models of a kind. @param {{kind: string}} props */
function Kind({ kind }) {
  const app = useApp();
  const files = useAppState((state) => state.specs.files[kind]);
  const [models, setModels] = useState(/** @type {Model[] | null} */ (null));
  const [words, setWords] = useState("");
  const [family, setFamily] = useState("");
  useEffect(() => {
    get(`/v1/models/${encodeURIComponent(kind)}`).then((body) => setModels(body.models)).catch((error) => app.tellError(error));
  }, [app, kind, files]);
  const families = useMemo(() => [...new Set((models ?? []).map((model) => model.family).filter(Boolean))], [models]);
  const found = (models ?? []).filter((model) => (!family || model.family === family)
    && words.toLowerCase().split(/\s+/).every((word) => model.name.toLowerCase().includes(word)));
  if (models && !models.length) return html`<p class="empty">There are none. Put files into <code>models/${kind}</code>; they appear at once.</p>`;
  return html`<input class="field" type="search" placeholder="Search" aria-label="search models" value=${words} onChange=${(/** @type {any} */ event) => setWords(event.target.value)} />
    ${families.length > 1 && html`<div class="models-families" role="group" aria-label="Family">${["", ...families].map((one) => html`
      <button key=${one} class="chip" aria-pressed=${one === family} onClick=${() => setFamily(one ?? "")}>${one || "all"}</button>`)}</div>`}
    <ul class="models-list" aria-label=${inWords(kind)}>${found.map((model) => html`<${Card} key=${model.name} kind=${kind} model=${model} />`)}</ul>
    ${models && !found.length && html`<p class="empty">None of ${models.length} fits.</p>`}`;
}

/** A model. @param {{kind: string, model: Model}} props */
function Card({ kind, model }) {
  const app = useApp();
  const [details, setDetails] = useState(/** @type {any} */ (null));
  const toggle = () => {
    if (details) return setDetails(null);
    get(`/v1/models/${encodeURIComponent(kind)}/${model.name.split("/").map(encodeURIComponent).join("/")}`).then(setDetails).catch((error) => app.tellError(error));
  };
  return html`<li class="model">
    <div class="model-head">
      ${model.picture ? html`<img class="model-picture" src=${model.picture} alt="" loading="lazy" />` : html`<span class="model-picture is-blank"><${Icon} name="model" /></span>`}
      <div class="model-text"><strong title=${model.name}>${model.name.replace(/\.(safetensors|ckpt|pt|pth|bin|sft)$/, "")}</strong>
        <span class="quiet">${[model.family, size(model.bytes)].filter(Boolean).join(" · ")}</span></div>
    </div>
    <div class="model-actions">
      <button class="button" onClick=${() => use(app, kind, model.name)}>Use</button>
      <button class="button is-quiet" aria-expanded=${Boolean(details)} onClick=${toggle}>Details</button>
    </div>
    ${details && html`<${Details} details=${details} />`}
  </li>`;
}

/** What the header of a file tells. @param {{details: any}} props */
function Details({ details: { tensors, dtype, metadata, sha256 } }) {
  const rows = [["Tensors", tensors], ["Type of numbers", dtype], ["SHA-256", sha256], ...Object.entries(metadata ?? {})].filter(([, value]) => value !== null && value !== undefined && value !== "");
  if (!rows.length) return html`<p class="quiet">The file tells nothing about itself.</p>`;
  return html`<dl class="model-details">${rows.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${typeof value === "string" ? value : JSON.stringify(value)}</dd></div>`)}</dl>`;
}

/** What the workflow names and what is not there. */
function Missing() {
  const app = useApp();
  const problems = useAppState(({ tabs, active }) => (tabs.find((tab) => tab.id === active)?.problems ?? []).filter((problem) => problem.kind === "missing_model"));
  if (!problems.length) return null;
  return html`<section class="models-missing" aria-label="Missing models"><h3>Missing in this workflow</h3>${problems.map((/** @type {Problem} */ problem, place) => html`
    <button key=${place} class="problem" onClick=${() => problem.node && app.tab.view.reveal(problem.node)}>
      <strong>${problem.where}</strong><span>${problem.what}</span>${problem.fix && html`<span class="problem-fix">${problem.fix}</span>`}
    </button>`)}
  </section>`;
}

/**
 * Sets a model in the selected node that takes its kind, else adds the loader that makes most of it and asks least.
 * @param {App} app
 * @param {string} kind
 * @param {string} name
 */
function use(app, kind, name) {
  const { editor, view } = app.tab;
  const inputOf = (/** @type {Spec | undefined} */ spec) => spec?.inputs.find((input) => input.file === kind)?.name;
  const chosen = editor.chosen.find((id) => inputOf(app.specs.nodes.get(editor.doc.nodes[id].class_type)));
  if (chosen) {
    const input = inputOf(app.specs.nodes.get(editor.doc.nodes[chosen].class_type)) ?? "";
    editor.edit(`Use ${name}`, (doc) => setValue(doc, chosen, input, name));
    return app.announce(`${name} is set.`);
  }
  const loader = [...app.specs.nodes.values()].filter((spec) => inputOf(spec) && !spec.name.startsWith("workflow:"))
    .sort((one, other) => other.outputs.length - one.outputs.length || one.inputs.length - other.inputs.length)[0];
  if (!loader) return app.toast(`No node type loads ${kind}.`);
  const { x, y } = view.middle();
  let id = "";
  editor.edit(`Add ${loader.title}`, (doc) => {
    const [added, fresh] = addNode(doc, loader.name, [Math.round(x) - 126, Math.round(y) - 60], { inputs: { [inputOf(loader) ?? ""]: name } });
    id = fresh;
    return added;
  });
  editor.select([id]);
  app.announce(`${loader.title} with ${name} is added.`);
}
