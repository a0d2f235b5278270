/** A workflow of the library, with its picture. */

import { html, useEffect, useRef, useState } from "../vendor/flow.js";
import { readWorkflow, shortName } from "../state/library.js";
import { MiniGraph } from "./MiniGraph.js";

/** @import {Doc} from "../graph/types.js" */
/** @import {WorkflowEntry} from "../state/library.js" */

/** @param {{entry: WorkflowEntry, onOpen: () => void, children?: any}} props */
export function WorkflowCard({ entry, onOpen, children }) {
  const { name, doc, picture } = entry;
  const shown = titleOf(shortName(name));
  return html`<li class="workflow-card">
    <button class="workflow-open" onClick=${onOpen} title=${doc ? `${name}: ${doc}` : name} aria-label=${shown}>
      ${picture ? html`<img class="workflow-picture" src=${small(picture)} alt="" loading="lazy" draggable=${false} />` : html`<${Drawn} name=${name} />`}
      <span class="workflow-name">${shown}</span>
      ${doc && html`<span class="workflow-doc">${doc}</span>`}
    </button>
    ${children}
  </li>`;
}

/**
 * A name as people read it: `text_to_image` is `Text to image`.
 * @param {string} name
 */
export function titleOf(name) {
  const words = name.replaceAll("_", " ");
  return words.slice(0, 1).toUpperCase() + words.slice(1);
}

/** @param {string} picture address of a picture of a run, or of one that ships, which is small */
function small(picture) {
  return picture.startsWith("/v1/files/") ? `${picture}?format=webp&size=256` : picture;
}

/** Draws the graph of a workflow once it is in view. @param {{name: string}} props */
function Drawn({ name }) {
  const ref = useRef(/** @type {HTMLElement | null} */ (null));
  const [doc, setDoc] = useState(/** @type {Doc | null} */ (null));
  useEffect(() => {
    const eye = new IntersectionObserver(([{ isIntersecting }]) => {
      if (!isIntersecting) return;
      eye.disconnect();
      readWorkflow(name).then((found) => setDoc(found.doc)).catch(() => {}); // the card opens it, and tells
    });
    eye.observe(/** @type {HTMLElement} */ (ref.current));
    return () => eye.disconnect();
  }, [name]);
  return html`<span ref=${ref} class="workflow-picture">${doc && html`<${MiniGraph} doc=${doc} />`}</span>`;
}
