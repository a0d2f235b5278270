/** A frame around nodes, which moves them with it. */

import { html, memo } from "../vendor/flow.js";
import { withGroup } from "../graph/document.js";
import { useTab } from "../state/use.js";
import { Title } from "./Title.js";

/** @import {NodeData} from "./flow.js" */

const COLOR = "#5b6780"; // of groups that have none

/** A group: its title, its colour, and the frame. */
export const GroupFrame = memo(function GroupFrame(/** @type {{id: string, data: NodeData, selected: boolean}} */ { id, data, selected }) {
  const { editor } = useTab();
  const group = /** @type {NonNullable<NodeData["group"]>} */ (data.group);
  const color = group.color || COLOR;
  const paint = (/** @type {any} */ event) => editor.edit("Colour", (doc) => withGroup(doc, { ...group, color: event.target.value }), `colour ${id}`);
  return html`<section class=${`group ${selected ? "is-selected" : ""}`} role="group" data-id=${id} aria-label=${group.title || "Group"} style=${{ "--group-color": color }}>
    <header class="group-header">
      <${Title} id=${id} title=${group.title || "Group"} />
      <input class="group-color nodrag nopan" type="color" aria-label=${`colour of ${group.title || "Group"}`} value=${/^#[0-9a-f]{6}$/i.test(color) ? color : COLOR} onChange=${paint} onBlur=${editor.rest} />
    </header>
    <span class="resize-handle nodrag nopan" data-resize=${id} aria-hidden="true"></span>
  </section>`;
});
