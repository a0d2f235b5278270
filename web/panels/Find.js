/** Find: nodes, notes and groups of the graph by title, type, id or value. */

import { html, useCallback, useRef } from "../vendor/flow.js";
import { findInDoc } from "../graph/search.js";
import { useApp } from "../state/use.js";
import { focusNode } from "./focus.js";
import { Picker } from "./Picker.js";

/** @import {Choice} from "./Picker.js" */

/** The dialog: arrows show each thing that fits, Enter stays with it. @param {{onClose: () => void}} props */
export function Find({ onClose }) {
  const app = useApp();
  const isMoved = useRef(false);
  const choices = useCallback((/** @type {string} */ query) => {
    const { doc } = app.tab.editor;
    isMoved.current = query !== "";
    return findInDoc(doc, app.specs, query).map(({ id, title, type, where }) => ({
      id, label: title, hint: where || (type === title ? `#${id}` : type), type: app.specs.nodes.get(type)?.outputs[0]?.port,
      pick() {
        app.tab.view.reveal(id);
        focusNode(id);
        app.announce(`${title}, ${type}`);
      },
    }));
  }, [app]);
  const show = useCallback((/** @type {Choice} */ { id }) => {
    if (isMoved.current) app.tab.view.reveal(id);
    isMoved.current = true;
  }, [app]);
  return html`<${Picker} label="Find in the graph" placeholder="Find by title, type, number or value" nothing="Nothing of this graph fits." choices=${choices} onMove=${show}
    className="is-find" onClose=${onClose} />`;
}
