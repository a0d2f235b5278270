/** What a workflow was before each of its saves. */

import { html, useEffect, useState } from "../vendor/flow.js";
import { countChanges } from "../graph/changes.js";
import { get, workflowPath } from "../net/api.js";
import { openIn, readVersion, shortName, versionsOf } from "../state/library.js";
import { useApp } from "../state/use.js";
import { ago, count } from "../words.js";
import { Dialog } from "./Dialog.js";
import { MiniGraph } from "./MiniGraph.js";

/** @import {Doc} from "../graph/types.js" */
/** @import {VersionEntry} from "../state/library.js" */

/** @param {{name: string, onClose: () => void}} props */
export function Versions({ name, onClose }) {
  const app = useApp();
  const [versions, setVersions] = useState(/** @type {VersionEntry[] | null} */ (null));
  const [now, setNow] = useState(/** @type {Doc | null} */ (null));
  const [chosen, setChosen] = useState(/** @type {{entry: VersionEntry, doc: Doc} | null} */ (null));
  const choose = (/** @type {VersionEntry} */ entry) => readVersion(name, entry.id).then((doc) => setChosen({ entry, doc })).catch((error) => app.tellError(error));
  useEffect(() => {
    versionsOf(name).then((found) => {
      setVersions(found);
      if (found.length) void choose(found[0]);
    }).catch((error) => app.tellError(error));
    get(workflowPath(name)).then(setNow).catch(() => {}); // it may be deleted; its versions are there
  }, [name]);
  const restore = () => {
    if (!chosen) return;
    onClose();
    openIn(app, chosen.doc, { name: `${shortName(name)} (${ago(chosen.entry.saved)})`, saved: null });
  };
  return html`<${Dialog} label=${`Versions of ${name}`} className="sheet is-wide" onClose=${onClose}>
    <div class="sheet-form">
      <h2>Versions of ${shortName(name)}</h2>
      ${versions?.length === 0 && html`<p class="quiet">Nothing was there before. Each save from now on keeps what it replaces.</p>`}
      ${versions !== null && versions.length > 0 && html`<div class="versions">
        <ul class="version-list">${versions.map((entry) => html`<li key=${entry.id}><button class="version" aria-pressed=${chosen?.entry.id === entry.id} onClick=${() => choose(entry)}>
          <strong>${new Date(entry.saved).toLocaleString()}</strong><span class="quiet">${count(entry.nodes, "node")} · ${ago(entry.saved)}</span></button></li>`)}</ul>
        <div class="version-view">${chosen && html`<${MiniGraph} doc=${chosen.doc} /><p>${differences(chosen.doc, now)}</p>`}</div>
      </div>`}
      <div class="sheet-buttons"><button class="button" onClick=${onClose}>Close</button>
        <button class="button is-primary" disabled=${!chosen} onClick=${restore}>Open in a new tab</button></div>
    </div>
  <//>`;
}

/** @param {Doc} version @param {Doc | null} now */
function differences(version, now) {
  if (!now) return "The workflow is not in the library now.";
  const { added, removed, changed } = countChanges(version, now);
  const words = [added && `${count(added, "node")} more`, removed && `${count(removed, "node")} less`, changed && `${changed} changed`].filter(Boolean);
  return words.length ? `What is saved now has, against this version: ${words.join(", ")}.` : "What is saved now has the same nodes.";
}
