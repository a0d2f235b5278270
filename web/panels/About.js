/** What a node type does, in a dialog. */

import { html } from "../vendor/flow.js";
import { useApp } from "../state/use.js";
import { Dialog } from "./Dialog.js";
import { AboutNode } from "./Palette.js";

/** The dialog. @param {{type: string, onClose: () => void}} props */
export function About({ type, onClose }) {
  const spec = useApp().specs.nodes.get(type);
  if (!spec) return null;
  const fields = spec.inputs.filter((input) => !input.link_only);
  return html`<${Dialog} label=${spec.title} className="about" onClose=${onClose}>
    <div class="about-body" tabIndex=${0} role="region" aria-label=${spec.title}><${AboutNode} about=${spec} />
      ${fields.length > 0 && html`<dl><dt>fields</dt>${fields.map((input) => html`<dd key=${input.name}><b>${input.name}</b> ${input.doc}</dd>`)}</dl>`}
    </div>
    <footer class="dialog-foot"><button class="button" onClick=${onClose}>Close</button></footer>
  <//>`;
}
