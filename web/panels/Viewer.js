/** The viewer: one picture over the whole window, and what is known of it. */

import { html, useCallback, useEffect, useRef, useState } from "../vendor/flow.js";
import { get } from "../net/api.js";
import { Icon } from "../icons.js";
import { isPicture, thumbnail } from "../state/pictures.js";
import { useApp } from "../state/use.js";
import { FullDialog } from "./FullDialog.js";
import { PictureActions } from "./PictureActions.js";
import { PictureFacts } from "./PictureFacts.js";
import { ZoomButtons } from "./ZoomButtons.js";
import { styleOf, useZoom, zoomKey } from "./zooming.js";

/** @import {Picture} from "../state/pictures.js" */
/** @import {Size} from "../graph/zoom.js" */

const VIDEOS = ["mp4", "webm", "mov", "mkv"];
const SOUNDS = ["flac", "mp3", "wav", "opus", "ogg"];

/**
 * The viewer.
 * @param {{files: Picture[], file: Picture, onGone?: (run: string) => void, onClose: () => void}} props `onGone` is told of a run that was deleted
 */
export function Viewer({ files: given, file: first, onGone, onClose }) {
  const app = useApp();
  const [files, setFiles] = useState(given.length ? given : [first]);
  const [file, setFile] = useState(first);
  const [hasSide, setSide] = useState(window.innerWidth > 800);
  const [follows, setFollows] = useState(false);
  const place = files.findIndex(({ url }) => url === file.url);
  const go = useCallback((/** @type {number} */ way) => {
    const next = files[files.findIndex(({ url }) => url === file.url) + way];
    if (!next) return app.announce(way > 0 ? "This is the last picture." : "This is the first picture.");
    setFile(next);
    app.announce(next.filename);
  }, [app, files, file]);
  useNewest(follows, useCallback((/** @type {Picture} */ newest) => {
    setFiles((old) => [newest, ...old.filter(({ url }) => url !== newest.url)]);
    setFile(newest);
  }, []));
  const gone = (/** @type {string} */ run) => {
    onGone?.(run);
    const rest = files.filter((one) => one.run !== run && one.url !== file.url);
    if (!rest.length) return onClose();
    setFiles(rest);
    setFile(rest[Math.min(place, rest.length - 1)]);
  };
  const [size, setSize] = useState(/** @type {Size} */ ({ width: 0, height: 0 }));
  const stage = useRef(/** @type {HTMLDivElement | null} */ (null));
  const zooming = useZoom(stage, size, { onSwipe: go });
  const onKey = (/** @type {KeyboardEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") go(event.key === "ArrowRight" ? 1 : -1);
    else if (event.key === "i") setSide(!hasSide);
    else if (!zoomKey(zooming, event.key)) return;
    event.preventDefault();
  };
  return html`<${FullDialog} title=${`Picture ${file.filename}`} className="viewer" onClose=${onClose} onKey=${onKey}>
    <header class="full-bar">
      <h2 class="full-title">${file.filename}</h2>
      <span class="quiet">${size.width > 0 && `${size.width} × ${size.height}`}${files.length > 1 && ` · ${place + 1} of ${files.length}`}</span>
      <span class="full-space"></span>
      <${ZoomButtons} zooming=${zooming} />
      <button class="button" aria-pressed=${follows} title="Show each new picture as it comes" onClick=${() => setFollows(!follows)}>Follow</button>
      <button class="button is-icon" aria-label="details" aria-pressed=${hasSide} title="Details (I)" onClick=${() => setSide(!hasSide)}><${Icon} name="info" /></button>
      <button class="button is-icon" aria-label="close" title="Close (Esc)" onClick=${onClose}><${Icon} name="close" /></button>
    </header>
    <div class="full-body">
      <div class="full-stage" ref=${stage} ...${zooming.handlers} onDoubleClick=${() => (zooming.isFit ? zooming.to(1) : zooming.fit())}>
        <${Shown} key=${file.url} file=${file} zooming=${zooming} size=${size} setSize=${setSize} />
      </div>
      ${place > 0 && html`<button class="button is-icon viewer-step is-left" aria-label="previous picture" onClick=${() => go(-1)}><${Icon} name="left" /></button>`}
      ${place < files.length - 1 && html`<button class="button is-icon viewer-step is-right" aria-label="next picture" onClick=${() => go(1)}><${Icon} name="right" /></button>`}
      ${hasSide && html`<aside class="full-side" aria-label="details">
        <${PictureActions} file=${file} onGone=${gone} onCompare=${() => app.show({ kind: "compare", one: file, back: { kind: "viewer", files, file, onGone } })} />
        <${PictureFacts} key=${file.url} file=${file} />
      </aside>`}
    </div>
  <//>`;
}

/** The picture itself, or what plays the file. @param {{file: Picture, zooming: import("./zooming.js").Zooming, size: Size, setSize: (size: Size) => void}} props */
function Shown({ file, zooming, size, setSize }) {
  const [isLoaded, setLoaded] = useState(false);
  const [isLost, setLost] = useState(false);
  if (VIDEOS.includes(file.format)) return html`<video class="viewer-player" src=${file.url} controls loop aria-label=${file.filename}></video>`;
  if (SOUNDS.includes(file.format)) return html`<audio class="viewer-player" src=${file.url} controls aria-label=${file.filename}></audio>`;
  if (!isPicture(file)) return html`<p class="empty viewer-player">${`A file of format ${file.format} cannot be shown here; download it.`}</p>`;
  if (isLost) return html`<p class="empty viewer-player" role="alert">This picture is not there any more.</p>`;
  const onLoad = (/** @type {any} */ { target }) => {
    setSize({ width: target.naturalWidth, height: target.naturalHeight });
    setLoaded(true);
  };
  const style = { ...styleOf(zooming.place, size), ...(isLoaded ? {} : { backgroundImage: `url("${thumbnail(file, 256)}")` }) };
  return html`<img class=${`full-picture ${isLoaded ? "is-loaded" : ""}`} src=${file.url} alt=${file.filename} style=${style} draggable=${false} onLoad=${onLoad} onError=${() => setLost(true)} />`;
}

/** Tells of each new picture while it is on. @param {boolean} isOn @param {(file: Picture) => void} tell */
function useNewest(isOn, tell) {
  const app = useApp();
  useEffect(() => {
    if (!isOn) return undefined;
    const end = app.follow(({ type }) => {
      if (type !== "Saved" && type !== "RunOver") return;
      get("/v1/outputs", { limit: 20 })
        .then(({ outputs }) => outputs.find(isPicture))
        .then((newest) => newest && tell(newest))
        .catch((error) => app.tellError(error));
    });
    return () => void end();
  }, [app, isOn, tell]);
}
