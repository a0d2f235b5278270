/** Commands by name, and the sheet of their keys. */

import { html, useCallback } from "../vendor/flow.js";
import { COMMANDS, SECTIONS } from "../commands.js";
import { ranked } from "../graph/search.js";
import { useApp } from "../state/use.js";
import { Dialog } from "./Dialog.js";
import { Picker } from "./Picker.js";

/** Keys that no command of the table stands for. */
const MORE = [
  { id: "tab", title: "From node to node", keys: ["Tab", "Shift+Tab"], section: "Keyboard" },
  { id: "enter", title: "Into a node; from a port: draw a wire", keys: ["Enter"], section: "Keyboard" },
  { id: "escape", title: "Out of a field, out of a node", keys: ["Escape"], section: "Keyboard" },
  { id: "arrows", title: "Into the graph; move what is selected", keys: ["Arrows"], section: "Keyboard" },
  { id: "cut-wire", title: "On a port: cut its wire", keys: ["Delete"], section: "Keyboard" },
  { id: "regions", title: "Bar, canvas, panels", keys: ["F6", "Shift+F6"], section: "Keyboard" },
  { id: "menu", title: "Menu of what has the focus", keys: ["Shift+F10"], section: "Keyboard" },
  { id: "box", title: "Select with a box", keys: ["Shift+drag"], section: "Select" },
];

/** @type {Record<string, string>} */
const ARROWS = { Left: "←", Right: "→", Up: "↑", Down: "↓" };

/** The list of commands. @param {{onClose: () => void}} props */
export function Commands({ onClose }) {
  const app = useApp();
  const choices = useCallback((/** @type {string} */ query) => {
    const all = COMMANDS.filter(({ id }) => id !== "commands");
    const found = query.trim() ? ranked(query, all, [(one) => one.title, (one) => sectionOf(one)]) : bySection(all).flatMap(({ rows }) => rows);
    return found.map((one) => ({ id: one.id, label: one.title, keys: one.keys.slice(0, 1).map(keyName), group: query.trim() ? "" : sectionOf(one), pick: () => one.run(app) }));
  }, [app]);
  return html`<${Picker} label="Commands" placeholder="Search commands" nothing="No command fits." choices=${choices} onClose=${onClose} />`;
}

/** The sheet of keys. @param {{onClose: () => void}} props */
export function KeySheet({ onClose }) {
  return html`<${Dialog} label="Keys" className="key-sheet" onClose=${onClose}>
    <header class="dialog-head"><h2>Keys</h2><button class="button is-quiet" onClick=${onClose}>Close</button></header>
    <div class="key-sections" tabIndex=${0} role="region" aria-label="Keys">${bySection([...COMMANDS, ...MORE].filter(({ keys }) => keys.length)).map(({ section, rows }) => html`
      <section key=${section} class="key-section"><h3>${section}</h3><dl>${rows.map(({ id, title, keys }) => html`
        <div key=${id} class="key-row"><dt>${title}</dt><dd>${keys.map((key, place) => html`<kbd key=${place}>${keyName(key)}</kbd>`)}</dd></div>`)}</dl>
      </section>`)}
    </div>
  <//>`;
}

/**
 * A key as it is written for people: `Ctrl ↵`.
 * @param {string} key
 */
export function keyName(key) {
  return key.replace(/\b[a-z]$/, (letter) => letter.toUpperCase()).replace("Enter", "↵").replace(/Arrow(Left|Right|Up|Down)/, (_, side) => ARROWS[side]).replaceAll("+", " ");
}

/** @param {{section?: string}} command */
const sectionOf = ({ section }) => section ?? "More";

/**
 * @template {{section?: string}} T
 * @param {T[]} commands
 */
function bySection(commands) {
  const sections = [...new Set([...SECTIONS, ...commands.map(sectionOf)])];
  return sections.map((section) => ({ section, rows: commands.filter((one) => sectionOf(one) === section) })).filter(({ rows }) => rows.length);
}
