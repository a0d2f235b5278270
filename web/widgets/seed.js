/** A seed: its number, dice that throw a new one, and what Run does to it before it starts. */

import { html } from "../vendor/flow.js";
import { Icon } from "../icons.js";
import { withUi } from "../graph/document.js";
import { useEditor, useTab } from "../state/use.js";
import { NumberField } from "./number.js";
import { nextSeed } from "./numbers.js";

/** @import {SeedMode} from "../graph/types.js" */
/** @import {WidgetProps} from "./index.js" */

/** @type {Record<SeedMode, {next: SeedMode, shown: string, says: string}>} */
const MODES = {
  fixed: { next: "random", shown: "", says: "fixed: stays as it is" },
  random: { next: "increment", shown: "random", says: "random: Run draws a new one first" },
  increment: { next: "decrement", shown: "+1", says: "increment: Run adds one first" },
  decrement: { next: "fixed", shown: "−1", says: "decrement: Run takes one away first" },
};

/** A field for a seed. @param {WidgetProps} props */
export function SeedField(props) {
  const { app, input, node, label, value, onChange } = props;
  const { editor } = useTab();
  const address = `${node}.${input.name}`;
  const mode = useEditor((state) => state.doc.ui?.seeds?.[address] ?? "fixed");
  const { next, shown, says } = MODES[mode] ?? MODES.fixed;
  const turn = () => {
    editor.edit(`Seed: ${next}`, (doc) => withUi(doc, "seeds", address, next === "fixed" ? undefined : next));
    app.announce(`${label}: ${MODES[next].says}`);
  };
  return html`<${NumberField} ...${props} className=${`field-seed is-${mode}`}>
    ${mode !== "random" && html`<button type="button" class="field-button" aria-label=${`new random ${label}`} title="a new one now" onClick=${() => onChange(nextSeed(input, value ?? 0, "random"))}><${Icon} name="dice" /></button>`}
    <button type="button" class="field-button field-mode" aria-label=${`${label} is ${says}`} title=${`${says}\nclick for ${next}`} onClick=${turn}>${shown || html`<${Icon} name="lock" />`}</button>
  <//>`;
}
