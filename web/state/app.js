/** The app: what is known of the server, the open tabs, what is shown beside them, and what all parts may ask for. */

import { createStore } from "../vendor/flow.js";
import { ApiError, call, get } from "../net/api.js";
import { listen } from "../net/socket.js";
import { EMPTY, settled } from "../graph/document.js";
import { arrange } from "../graph/places.js";
import { newId } from "./claims.js";
import { createEditor } from "./editor.js";
import { createRuns } from "./runs.js";
import { shownNode } from "./shown.js";

/** @import {Doc, Problem, Specs} from "../graph/types.js" */
/** @import {Editor} from "./editor.js" */

/**
 * @typedef {object} Tab an open document
 * @property {string} id stays over reloads
 * @property {string} client as the server knows it in runs
 * @property {Editor} editor
 * @property {CanvasView} view what the canvas on screen can do; replaced while it is there
 *
 * @typedef {object} TabState what changes of a tab besides its document
 * @property {string} id
 * @property {string} name as shown
 * @property {string | null} workflow its name in the library
 * @property {string} base ETag of what was saved there
 * @property {Doc | null} saved what was saved or opened; the tab has changes when its document is another one
 * @property {string} [theirs] ETag of what another window saved there meanwhile
 * @property {"graph" | "form"} shows
 * @property {Problem[]} problems
 * @property {boolean} isChecked false while `problems` are of an earlier document
 *
 * @typedef {object} CanvasView
 * @property {(ids?: Iterable<string>) => void} fit shows these nodes, or all
 * @property {(id: string) => void} reveal moves a node into view and selects it
 * @property {() => {x: number, y: number}} middle of what is seen, in the document's places
 * @property {(x: number, y: number) => {x: number, y: number}} toFlow from pixels of the page
 * @property {(zoom: number) => void} zoomTo
 *
 * @typedef {{kind: string, [name: string]: any}} Overlay a dialog or menu; `kind` names its component in panels/overlays.js
 * @typedef {{id: number, kind: "note" | "error", text: string, action?: {label: string, run: () => void}}} Toast
 *
 * @typedef {object} AppState
 * @property {Specs} specs
 * @property {{name: string, scope: "run" | "edit" | "admin", needs_token: boolean}} me
 * @property {TabState[]} tabs
 * @property {string} active id of the tab in front
 * @property {string} left panel at the left, "" for none
 * @property {string} right panel at the right, "" for none
 * @property {Overlay | null} overlay
 * @property {Toast[]} toasts
 * @property {boolean} isOnline
 * @property {string} said last, in the live region
 *
 * @typedef {ReturnType<typeof createApp>} App
 */

/** @type {CanvasView} */
const NOWHERE = { fit() {}, reveal() {}, middle: () => ({ x: 0, y: 0 }), toFlow: (x, y) => ({ x, y }), zoomTo() {} };
const TOAST_MS = 6000;

/** True on a phone, where a form is of more use than a graph. */
const isNarrow = () => matchMedia("(max-width: 720px)").matches;

/** Makes the app; `start` brings it up. */
export function createApp() {
  const store = createStore(() => /** @type {AppState} */ ({
    specs: { nodes: new Map(), files: {}, failures: {} },
    me: { name: "", scope: "run", needs_token: false },
    tabs: [], active: "", left: "", right: matchMedia("(max-width: 1000px)").matches ? "" : "queue", overlay: null, toasts: [], isOnline: true, said: "",
  }));
  /** @type {Map<string, Tab>} */
  const tabs = new Map();
  /** @type {Set<(event: import("../net/socket.js").Told) => void>} */
  const followers = new Set();
  let specsTag = "";
  const runs = createRuns((client, node) => {
    const tab = tabs.get(client.replace(/^canvas:/, ""));
    return tab ? shownNode(tab.editor.doc, node) : null;
  }, (client) => tabs.has(client.replace(/^canvas:/, "")));

  /** @param {string} text */
  const announce = (text) => store.setState({ said: text });

  /** Takes what was said in a corner away. @param {number} id */
  const dismiss = (id) => store.setState(({ toasts }) => ({ toasts: toasts.filter((one) => one.id !== id) }));

  /**
   * Says something in a corner of the page, and to screen readers.
   * @param {string} text
   * @param {Toast["kind"]} [kind]
   * @param {Toast["action"]} [action]
   */
  function toast(text, kind = "note", action) {
    const id = performance.now();
    store.setState(({ toasts }) => ({ toasts: [...toasts.filter((one) => one.text !== text).slice(-3), { id, kind, text, action }], said: text }));
    window.setTimeout(() => dismiss(id), kind === "error" ? 2 * TOAST_MS : TOAST_MS);
  }

  /**
   * Tells of an error in words.
   * @param {unknown} error
   * @param {string} [before] what failed
   */
  function tellError(error, before = "") {
    if (!(error instanceof Error)) throw error;
    toast([before, error.message].filter(Boolean).join(": "), "error");
    if (!(error instanceof ApiError)) throw error;
  }

  /** Reads the node types and files of the server. */
  async function loadSpecs() {
    const { body: { nodes, files, failures }, etag } = await call("GET", "/v1/nodes", { query: { detail: "true" } });
    if (etag && etag === specsTag) return; // so that nothing is drawn anew
    specsTag = etag;
    const specs = { nodes: new Map(nodes.map((/** @type {any} */ spec) => [spec.name, spec])), files, failures };
    store.setState({ specs });
  }

  /**
   * Opens a document in a tab of its own and brings it to the front.
   * @param {Doc} doc
   * @param {Partial<TabState>} [state]
   * @returns {Tab}
   */
  function openTab(doc, state = {}) {
    const id = state.id ?? newId();
    const editor = createEditor(settled(doc, store.getState().specs, arrange(store.getState().specs)));
    const tab = { id, client: `canvas:${id}`, editor, view: NOWHERE };
    tabs.set(id, tab);
    /** @type {TabState} */
    const shown = { id, name: doc.name || "Untitled", workflow: null, base: "", saved: editor.doc, shows: isNarrow() && doc.inputs ? "form" : "graph", problems: [], isChecked: false, ...state };
    store.setState(({ tabs: old }) => ({ tabs: [...old, shown], active: id }));
    return tab;
  }

  /**
   * Changes what is known of a tab.
   * @param {string} id
   * @param {Partial<TabState>} changes
   */
  function changeTab(id, changes) {
    store.setState(({ tabs: old }) => ({ tabs: old.map((tab) => (tab.id === id ? { ...tab, ...changes } : tab)) }));
  }

  /**
   * Closes a tab; the one beside it comes to the front, or a new one.
   * @param {string} id
   */
  function closeTab(id) {
    const { tabs: old, active } = store.getState();
    const place = old.findIndex((tab) => tab.id === id);
    const rest = old.filter((tab) => tab.id !== id);
    tabs.delete(id);
    runs.forget(`canvas:${id}`);
    store.setState({ tabs: rest, active: active === id ? rest[Math.min(place, rest.length - 1)]?.id ?? "" : active });
    if (!rest.length) openTab(EMPTY);
  }

  return {
    store,
    runs,
    tabs,
    /** What keeps the tabs; there from the boot on. */
    drafts: /** @type {import("./drafts.js").Drafts} */ (/** @type {unknown} */ (null)),
    announce,
    toast,
    dismiss,
    tellError,
    loadSpecs,
    openTab,
    changeTab,
    closeTab,
    /** Where the pointer was last, in pixels of the page. */
    pointer: /** @type {{x: number, y: number} | null} */ (null),
    /** The tab in front. */
    get tab() {
      return /** @type {Tab} */ (tabs.get(store.getState().active));
    },
    /** What is known of the tab in front. */
    get tabState() {
      const { tabs: all, active } = store.getState();
      return /** @type {TabState} */ (all.find((tab) => tab.id === active));
    },
    get specs() {
      return store.getState().specs;
    },
    /**
     * Shows a dialog or a menu, or takes it away.
     * @param {Overlay | null} overlay
     */
    show(overlay) {
      store.setState({ overlay });
    },
    /**
     * Follows what the server tells -> a function that ends it.
     * @param {(event: import("../net/socket.js").Told) => void} follower
     */
    follow(follower) {
      followers.add(follower);
      return () => followers.delete(follower);
    },
    /** Reads who is asking and the node types. */
    async load() {
      const [me] = await Promise.all([get("/v1/me"), loadSpecs()]);
      store.setState({ me });
    },
    /** Listens to the server, and reads what happened whenever the connection comes back. */
    connect() {
      return listen({
        onEvent(event, picture) {
          runs.take(event, picture);
          for (const follower of followers) follower(event);
        },
        onOpen() {
          if (!store.getState().isOnline) toast("The server is back.");
          store.setState({ isOnline: true });
          runs.read().catch(() => {});
          for (const { client } of tabs.values()) runs.resume(client).catch(() => {});
        },
        onLost: () => store.setState({ isOnline: false, said: "The connection to the server is lost." }),
      });
    },
    call,
  };
}
