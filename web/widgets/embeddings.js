/** Names of embeddings, offered while one is typed into a prompt. */

import { html, useEffect, useId, useState } from "../vendor/flow.js";
import { get } from "../net/api.js";
import { Floating, Options, found } from "./list.js";

const TYPED = /embedding:([^\s,():]*)$/;

/**
 * The list below a prompt, while its caret is behind `embedding:`.
 * @param {{area: HTMLTextAreaElement, before: string, onTake: (area: HTMLTextAreaElement, change: any) => void}} props
 */
export function Embeddings({ area, before, onTake }) {
  const typed = TYPED.exec(before);
  return typed && html`<${Offer} area=${area} typed=${typed[1]} caret=${before.length} onTake=${onTake} />`;
}

/** @param {{area: HTMLTextAreaElement, typed: string, caret: number, onTake: (area: HTMLTextAreaElement, change: any) => void}} props */
function Offer({ area, typed, caret, onTake }) {
  const id = useId();
  const [all, setAll] = useState(/** @type {string[]} */ ([]));
  const [at, setAt] = useState(0);
  const [isClosed, setClosed] = useState(false);
  useEffect(() => {
    get("/v1/models/embeddings").then(({ models }) => setAll(models.map((/** @type {{name: string}} */ { name }) => name.replace(/\.\w+$/, ""))), () => {});
  }, []);
  const names = found(all, typed).filter((name) => name !== typed);
  const isOpen = !isClosed && names.length > 0;
  const take = (/** @type {string} */ name) => onTake(area, { from: caret - typed.length, to: caret, insert: name, start: caret - typed.length + name.length, end: caret - typed.length + name.length });
  useEffect(() => {
    if (!isOpen) return undefined;
    const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") setAt((old) => (old + (event.key === "ArrowDown" ? 1 : names.length - 1)) % names.length);
      else if (event.key === "Enter" || event.key === "Tab") take(names[Math.min(at, names.length - 1)]);
      else if (event.key === "Escape") setClosed(true);
      else return;
      event.preventDefault();
      event.stopPropagation();
    };
    area.addEventListener("keydown", onKeyDown);
    area.setAttribute("aria-controls", id);
    return () => {
      area.removeEventListener("keydown", onKeyDown);
      area.removeAttribute("aria-controls");
    };
  });
  return isOpen && html`<${Floating} anchor=${area}><${Options} id=${id} label="embeddings" names=${names} at=${Math.min(at, names.length - 1)} onPick=${take} /><//>`;
}
