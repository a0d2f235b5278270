/** Context menus: of nodes, wires, groups, notes and the bare canvas. */

import { html, useLayoutEffect, useRef } from "../vendor/flow.js";
import { useApp } from "../state/use.js";
import { Dialog } from "./Dialog.js";
import { itemsOf } from "./menus.js";

/** @import {Item, Target} from "./menus.js" */

/** @type {Record<string, string>} */
const titles = { node: "Node", wire: "Wire", pane: "Canvas", group: "Group", note: "Note" };
/** @type {Target} */
const PANE = { kind: "pane", id: "" };

/**
 * A menu: arrows move, Enter chooses, a letter goes to what begins with it.
 * @param {{at: {x: number, y: number}, target?: Target, label?: string, items?: (Item | null)[], onClose: () => void}} props of a
 *   target of the canvas, or with items of its own
 */
export function Menu({ at, target = PANE, label = titles[target.kind], items: own, onClose }) {
  const app = useApp();
  const ref = useRef(/** @type {HTMLElement | null} */ (null));
  const items = own ?? itemsOf(app, target, at);
  useLayoutEffect(() => buttonsIn(ref.current)[0]?.focus(), []);
  const onKey = (/** @type {KeyboardEvent} */ event) => {
    const buttons = buttonsIn(ref.current);
    const here = buttons.indexOf(/** @type {any} */ (document.activeElement));
    const next = moved(event.key, here, buttons);
    if (next === undefined) return;
    event.preventDefault();
    buttons[next]?.focus();
  };
  const choose = (/** @type {Item} */ item) => {
    onClose();
    item.run();
  };
  return html`<${Dialog} label="Menu" at=${at} className="menu" onClose=${onClose}>
    <div role="menu" aria-label=${label} ref=${ref} onKeyDown=${onKey}>${items.map((item, place) => row(item, place, choose))}</div>
  <//>`;
}

/** @param {Item | null} item @param {number} place @param {(item: Item) => void} choose */
function row(item, place, choose) {
  if (!item) return html`<div role="separator" key=${place} class="menu-line"></div>`;
  if (item.colors) {
    return html`<div role="group" aria-label=${item.label} key=${item.id} class="menu-colors">${item.colors.map(({ color, name, isOn, run }) => html`
      <button key=${name} role="menuitemradio" aria-checked=${isOn} aria-label=${`${item.label}: ${name}`} title=${name} tabIndex=${-1} class=${`swatch ${color ? "" : "is-none"}`}
        style=${color ? { "--swatch": color } : undefined} onClick=${() => choose({ ...item, run })}></button>`)}</div>`;
  }
  return html`<button role="menuitem" key=${item.id} class=${`menu-item ${item.isDanger ? "is-danger" : ""}`} tabIndex=${-1} onClick=${() => choose(item)}
    onMouseMove=${(/** @type {any} */ event) => event.currentTarget.focus({ preventScroll: true })}><span>${item.label}</span>${item.keys && html`<kbd>${item.keys}</kbd>`}</button>`;
}

/** @param {Element | null} menu @returns {HTMLElement[]} */
const buttonsIn = (menu) => [...(menu?.querySelectorAll("button") ?? [])];

/** @param {string} key @param {number} here @param {HTMLElement[]} buttons */
function moved(key, here, buttons) {
  const last = buttons.length - 1;
  if (key === "ArrowDown" || key === "ArrowRight") return here >= last ? 0 : here + 1;
  if (key === "ArrowUp" || key === "ArrowLeft") return here <= 0 ? last : here - 1;
  if (key === "Home") return 0;
  if (key === "End") return last;
  if (key === "Tab") return here;
  if (!/^\S$/.test(key)) return undefined;
  const order = [...buttons.slice(here + 1), ...buttons.slice(0, here + 1)];
  const found = order.find((button) => button.textContent?.toLowerCase().startsWith(key.toLowerCase()));
  return found ? buttons.indexOf(found) : undefined;
}
