/** What lies over the canvas: where to start when it is empty, what another window saved, and where files can be dropped. */

import { html, useEffect, useState, useStoreWithEqualityFn } from "../vendor/flow.js";
import { isEmpty } from "../state/draft.js";
import { STARTERS, openWorkflow, reload } from "../state/library.js";
import { isOpenable, openDropped } from "../state/opening.js";
import { useApp, useAppState, useTab } from "../state/use.js";
import { useWorkflows } from "./useLibrary.js";
import { WorkflowCard } from "./WorkflowCard.js";

/** All of it. */
export function OverCanvas() {
  const tab = useTab();
  if (!tab) return null;
  return html`<${Starters} key=${tab.id} /><${Elsewhere} /><${DropZone} />`;
}

/** What an empty tab offers. */
function Starters() {
  const { editor } = useTab();
  const isShown = useStoreWithEqualityFn(editor.store, ({ doc }) => isEmpty(doc));
  return isShown && html`<${StarterCards} />`;
}

/** Three workflows to begin with. */
function StarterCards() {
  const app = useApp();
  const found = useWorkflows();
  const entries = STARTERS.flatMap((name) => found?.find((entry) => entry.name === name) ?? []);
  const open = (/** @type {string} */ name) => openWorkflow(app, name).catch((error) => app.tellError(error, `"${name}" cannot be opened`));
  return html`<section class="empty-canvas" aria-label="Start">
    ${entries.length > 0 && html`<h2>Start with</h2>
      <ul class="starters">${entries.map((entry) => html`<${WorkflowCard} key=${entry.name} entry=${entry} onOpen=${() => open(entry.name)} />`)}</ul>`}
    <p class="quiet">or drop a picture to open its workflow, or press Space to add a node</p>
  </section>`;
}

/** Tells that another window saved the workflow of the tab in front. */
function Elsewhere() {
  const app = useApp();
  const state = useAppState(({ tabs, active }) => tabs.find((tab) => tab.id === active));
  if (!state?.theirs) return null;
  const keep = () => app.changeTab(state.id, { theirs: undefined });
  return html`<div class="elsewhere" role="alert"><span>"${state.name}" was saved in another window.</span>
    <button class="button" onClick=${() => reload(app, state.id).catch((error) => app.tellError(error, "Not read"))}>Reload</button>
    <button class="button is-quiet" onClick=${keep}>Keep mine</button></div>`;
}

/** Opens what is dropped anywhere on the page where nothing else takes it, and shows so while it is dragged. */
function DropZone() {
  const app = useApp();
  const [isShown, setIsShown] = useState(false);
  useEffect(() => {
    const over = (/** @type {DragEvent} */ event) => {
      const isMeant = !event.defaultPrevented && isOpenable(event.dataTransfer);
      setIsShown(isMeant);
      if (isMeant) event.preventDefault();
    };
    const leave = (/** @type {DragEvent} */ event) => event.relatedTarget || setIsShown(false);
    const drop = (/** @type {DragEvent} */ event) => {
      setIsShown(false);
      if (event.defaultPrevented || !event.dataTransfer || !isOpenable(event.dataTransfer)) return;
      event.preventDefault();
      void openDropped(app, event.dataTransfer, app.tab.view.toFlow(event.clientX, event.clientY));
    };
    window.addEventListener("dragover", over);
    window.addEventListener("dragleave", leave);
    window.addEventListener("drop", drop);
    return () => {
      window.removeEventListener("dragover", over);
      window.removeEventListener("dragleave", leave);
      window.removeEventListener("drop", drop);
    };
  }, [app]);
  return isShown && html`<div class="drop-zone"><strong>Drop to open in a new tab</strong><span>PNG, WEBP, JPEG or JSON</span></div>`;
}
