/** Keys: the table of commands at work. */

import { useEffect } from "../vendor/flow.js";
import { COMMANDS } from "../commands.js";
import { useApp } from "../state/use.js";

/** Lets keys do what the table says, while the page is there. */
export function useKeys() {
  const app = useApp();
  useEffect(() => {
    const onKey = (/** @type {KeyboardEvent} */ event) => {
      if (event.defaultPrevented || event.isComposing || app.store.getState().overlay) return;
      const command = COMMANDS.find((one) => one.keys.some((key) => fits(event, key)) && isMeant(event, one));
      if (!command) return;
      event.preventDefault();
      if (event.repeat && /^(run|save)/.test(command.id)) return; // held, not meant again
      command.run(app);
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [app]);
}

/**
 * True when a key is the one named, such as `Ctrl+Shift+Z`.
 * @param {KeyboardEvent} event
 * @param {string} name
 */
export function fits(event, name) {
  const parts = name.split("+");
  const key = parts.pop() === "Space" ? " " : name.split("+").pop() ?? "";
  const wants = new Set(parts);
  const isSame = event.key === key || (event.key.length === 1 && event.key.toLowerCase() === key.toLowerCase())
    || (event.altKey && event.code === `Key${key.toUpperCase()}`); // on a Mac, Alt makes other letters
  const hasShift = wants.has("Shift") || (key.length === 1 && !/[a-z ]/i.test(key));
  return isSame && (event.ctrlKey || event.metaKey) === wants.has("Ctrl") && event.altKey === wants.has("Alt")
    && (event.shiftKey === wants.has("Shift") || (hasShift && !/[a-z]/i.test(key)));
}

/** @param {KeyboardEvent} event @param {import("../commands.js").Command} command */
function isMeant(event, command) {
  if (command.where !== "canvas") return command.where === "anywhere";
  const at = /** @type {HTMLElement | null} */ (event.target);
  if (at?.closest("input, textarea, select, [contenteditable], [role=dialog], .dock")) return false;
  const isBare = !at || at === document.body || at.matches(".react-flow, .react-flow__pane, .stage");
  return !["Tab", " ", "Enter"].includes(event.key) || (isBare && document.querySelector(".react-flow") !== null);
}
