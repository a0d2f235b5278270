/** A picture to load: what it looks like, chosen from what is there, dropped or brought. */

import { html, useEffect, useRef, useState } from "../vendor/flow.js";
import { Icon } from "../icons.js";
import { pictureIn, upload } from "../net/uploads.js";
import { size } from "../words.js";
import { Box } from "./box.js";
import { ChoiceButton, useMissing } from "./choice.js";

/** @import {WidgetProps} from "./index.js" */

const PICTURE = /\.(png|jpe?g|webp|gif|bmp|tiff?|avif)$/i;

/** A field for a picture of the input folder. A picture dropped anywhere on its node goes there. @param {WidgetProps} props */
export function PictureField(props) {
  const { app, id, input, label, node, value, problem, onChange } = props;
  const [busy, setBusy] = useState("");
  const [error, setError] = useState("");
  const field = useRef(/** @type {HTMLDivElement | null} */ (null));
  const chooser = useRef(/** @type {HTMLInputElement | null} */ (null));
  const isMissing = useMissing(input, value);
  const bring = async (/** @type {File | undefined | null} */ file) => {
    if (!file) return;
    setError("");
    setBusy(`Bringing ${file.name}, ${size(file.size)} …`);
    try {
      onChange(await upload(app, file));
      app.announce(`${file.name} is loaded.`);
    } catch (refusal) {
      setError(refusal instanceof Error ? refusal.message : String(refusal));
    }
    setBusy("");
  };
  const isOver = useDropped(field, input.file === "input" ? bring : null);
  const file = value && !isMissing ? fileOf(String(value), input.file ?? "input") : null;
  return html`<${Box} id=${id} problem=${error || isMissing || problem} className=${`field-picture ${isOver ? "is-over" : ""}`}>
    <${ChoiceButton} app=${app} id=${id} input=${input} label=${label} value=${value} problem=${isMissing || problem} pictureOf=${(/** @type {string} */ name) => smallOf(fileOf(name, input.file ?? "input"), 96)} onChange=${onChange} />
    <div class="picture" ref=${field}>
      ${file && PICTURE.test(file.filename) && html`<img class="picture-image" key=${file.url} src=${smallOf(file, 384)} alt=${value} draggable="false" />`}
      ${!file && !busy && html`<p class="picture-empty">${isMissing ? "This picture is not there." : "Drop a picture here"}</p>`}
      ${busy && html`<p class="picture-busy" role="status">${busy}</p>`}
      <div class="picture-actions">
        ${input.file === "input" && html`<button type="button" class="button" onClick=${() => chooser.current?.click()}><${Icon} name="upload" />Upload</button>`}
        ${file && input.file === "input" && html`<button type="button" class="button" onClick=${() => app.show({ kind: "mask", node, input: input.name, file })}><${Icon} name="brush" />Edit mask</button>`}
      </div>
      <input ref=${chooser} type="file" accept="image/*" hidden aria-label=${`upload a picture for ${label}`} onChange=${(/** @type {any} */ event) => { void bring(event.target.files[0]); event.target.value = ""; }} />
    </div>
  <//>`;
}

/**
 * A file by the name that an input calls it: `sub/name.png`, or `name.png [output]` of another folder.
 * @param {string} name
 * @param {string} folder
 */
function fileOf(name, folder) {
  const [, path, type] = /^(.*?)(?: \[(input|output|temp)\])?$/.exec(name) ?? ["", name, ""];
  const end = path.lastIndexOf("/");
  const kind = type ?? folder;
  const url = `/v1/files/${kind}/${path.split("/").map(encodeURIComponent).join("/")}`;
  return { type: kind, subfolder: path.slice(0, Math.max(0, end)), filename: path.slice(end + 1), url };
}

/** @param {{url: string}} file @param {number} side */
const smallOf = ({ url }, side) => `${url}?format=jpeg&size=${side}`;

/**
 * Takes pictures that are dropped on the node, or the row of a form, around a field -> true while one is over it.
 * @param {{current: HTMLElement | null}} field
 * @param {((file: File | null) => void) | null} take
 */
function useDropped(field, take) {
  const [isOver, setOver] = useState(false);
  const latest = useRef(take);
  latest.current = take;
  useEffect(() => {
    const target = field.current?.closest(".node, .form-row") ?? field.current;
    const over = (/** @type {any} */ event) => {
      if (!latest.current || !event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      event.stopPropagation();
      setOver(true);
    };
    const leave = (/** @type {any} */ event) => target?.contains(event.relatedTarget) || setOver(false);
    const drop = (/** @type {any} */ event) => {
      setOver(false);
      const file = pictureIn(event.dataTransfer);
      if (!latest.current || !file) return;
      event.preventDefault();
      event.stopPropagation();
      latest.current(file);
    };
    const events = /** @type {const} */ ([["dragover", over], ["dragleave", leave], ["drop", drop]]);
    for (const [name, listener] of events) target?.addEventListener(name, listener);
    return () => events.forEach(([name, listener]) => target?.removeEventListener(name, listener));
  }, [field]);
  return isOver;
}
