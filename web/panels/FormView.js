/** The form instead of the graph: fields at one side, what comes of them at the other. */

import { html, useStoreWithEqualityFn } from "../vendor/flow.js";
import { run, stop } from "../state/running.js";
import { useApp, useAppState, useEditor, useRun, useTab } from "../state/use.js";
import { inWords } from "../graph/form.js";
import { duration } from "../words.js";
import { Icon } from "../icons.js";
import { FormFields } from "./FormFields.js";

/** @import {FileView, NodeRun} from "../state/progress.js" */

const PICTURES = ["png", "jpg", "jpeg", "webp", "gif"];

/** The form of the tab around, with Run and its pictures. */
export function FormView() {
  const app = useApp();
  const tab = useTab();
  const name = useAppState(({ tabs }) => tabs.find(({ id }) => id === tab.id)?.name ?? "");
  const { title, doc } = useEditor((state) => ({ title: state.doc.name, doc: state.doc.doc }));
  const status = useRun((view) => view?.status);
  const isOver = !status || !["queued", "running"].includes(status);
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    void run(app, tab);
  };
  return html`<div class="form-view">
    <form class="form-side" onSubmit=${submit} aria-label=${inWords(title || name)}>
      <h2>${inWords(title || name)}</h2>
      ${doc && html`<p class="quiet">${doc}</p>`}
      <${FormFields} />
      <div class="form-actions">
        <button class="button is-primary" type="submit">${isOver ? "Run" : "Run again"}</button>
        ${!isOver && html`<button class="button" type="button" onClick=${() => stop(app, tab)}>Stop</button>`}
      </div>
    </form>
    <${Results} />
  </div>`;
}

/** The picture under way or made last, and what else came. */
function Results() {
  const app = useApp();
  const { status, error, nodes } = useRun((view) => ({ status: view?.status, error: view?.error, nodes: view?.nodes }));
  const all = Object.values(nodes ?? {});
  const running = all.find((node) => node.state === "running");
  const files = all.flatMap((node) => node.files ?? []);
  const pictures = files.filter(({ format }) => PICTURES.includes(format));
  const texts = all.flatMap((node) => node.texts ?? []);
  const isEmpty = !running && !pictures.length && !texts.length && status !== "error";
  return html`<section class=${`form-results ${isEmpty ? "is-empty" : ""}`} aria-label="Results" aria-busy=${status === "running" || status === "queued"}>
    <${Progress} status=${status} running=${running} />
    ${error && status === "error" && html`<p class="form-problem" role="alert">${error}</p>`}
    ${running?.preview
    ? html`<img class="form-picture" src=${running.preview} alt="preview of the picture under way" />`
    : pictures.map((file) => html`<${Result} key=${file.url} file=${file} onOpen=${() => app.show({ kind: "viewer", files: pictures, file })} />`)}
    ${texts.map((text, place) => html`<pre key=${place} class="node-text">${text}</pre>`)}
    ${isEmpty && html`<p class="empty">What you make appears here.</p>`}
  </section>`;
}

/** @param {{status?: string, running?: NodeRun}} props */
function Progress({ status, running }) {
  const { active } = useStoreWithEqualityFn(useApp().runs.queue, (state) => state);
  const ahead = active.filter((one) => one.status === "running" || one.status === "queued").length - 1;
  if (status === "queued") return html`<p class="form-progress">${ahead > 0 ? `Waiting behind ${ahead}` : "Waiting"}</p>`;
  if (status !== "running") return null;
  const left = running?.secondsLeft ? ` · ${duration(running.secondsLeft)} left` : "";
  return html`<div class="form-progress"><progress aria-label="progress" max=${running?.total ?? 1} value=${running?.step ?? 0}></progress>
    <span>${running?.total ? `${running.step} of ${running.total}${left}` : "Working"}</span></div>`;
}

/** @param {{file: FileView, onOpen: () => void}} props */
function Result({ file, onOpen }) {
  return html`<figure class="form-result">
    <button class="form-open" type="button" aria-label=${`open ${file.filename}`} onClick=${onOpen}><img class="form-picture" src=${file.url} alt=${file.filename} /></button>
    <figcaption><span class="quiet">${file.filename}</span>
      <a class="button is-quiet" href=${file.url} download=${file.filename}><${Icon} name="download" />Download</a></figcaption>
  </figure>`;
}
