/** The graph of a tab: nodes and wires, moved and drawn with mouse, touch and keys. */

import {
  Background, Panel, ReactFlow, ReactFlowProvider, SelectionMode, createStore, html, useCallback, useEffect, useMemo, useReactFlow, useStore, useStoreApi, useState,
} from "../vendor/flow.js";
import { GRID } from "../graph/geometry.js";
import { deferred } from "../later.js";
import { useApp, useAppState, useTab } from "../state/use.js";
import { useGraph } from "./derived.js";
import { DraftWire } from "./Draft.js";
import { useGestures } from "./gestures.js";
import { GroupFrame } from "./Group.js";
import { FarContext, GraphNode } from "./Node.js";
import { NoteCard } from "./Note.js";
import { Reroute } from "./Reroute.js";
import { Wire } from "./Wire.js";
import { useWheel } from "./wheel.js";
import { ZoomButtons } from "./Zoom.js";

/** @import {Ground} from "./wiring.js" */

const NODE_TYPES = { node: GraphNode, reroute: Reroute, note: NoteCard, frame: GroupFrame };
const EDGE_TYPES = { wire: Wire };
const MANY = 60; // nodes from which on those out of view are not in the page
const MAPPED = 15; // nodes from which on there is a map
const FAR = 0.4; // zoom below which only headers and ports are drawn
const MOVE_MS = 120;
const CHOOSE_MORE = ["Control", "Meta", "Shift"];
const Minimap = deferred(() => import("./Minimap.js"), "Minimap");
const FIT = { maxZoom: 1, padding: 0.1 };
const SNAP = /** @type {[number, number]} */ ([GRID, GRID]);

/** What screen readers are told of a node that has the focus. */
const WORDS = { "node.a11yDescription.default": "Enter goes into the node, Tab to the next, arrows move it, Delete removes it." };

/** The canvas of the tab around it. */
export function Canvas() {
  return html`<${ReactFlowProvider}><${Flow} /><//>`;
}

function Flow() {
  const app = useApp();
  const tab = useTab();
  const { editor } = tab;
  const specs = useAppState((state) => state.specs);
  const { nodes, edges, ...handlers } = useGraph(app, tab, specs);
  const [drafts] = useState(() => createStore(() => ({ draft: /** @type {import("./wiring.js").Draft | null} */ (null) })));
  const isFar = useStore((state) => state.transform[2] < FAR);
  const pans = useWheel();
  useView(tab);
  const gestures = useGestures(app, tab, useGround(drafts));
  const keepView = useCallback((/** @type {any} */ _, /** @type {any} */ viewport) => editor.adjust((doc) => ({ ...doc, ui: { ...doc.ui, viewport } })), [editor]);
  const viewport = useMemo(() => editor.doc.ui?.viewport, [editor]);

  const still = useMemo(() => [
    html`<${Background} key="ground" gap=${GRID} size=${1} />`,
    html`<${DraftWire} key="draft" store=${drafts} />`,
    html`<${Panel} key="zoom" position="bottom-left"><${ZoomButtons} /><//>`,
  ], [drafts]); // the same elements, so that a drag does not draw them again

  return html`<div class=${`canvas ${isFar ? "is-far" : ""}`} ...${gestures} onWheelCapture=${pans.onWheel}>
    <${FarContext.Provider} value=${isFar}><${ReactFlow}
      nodes=${nodes} edges=${edges} nodeTypes=${NODE_TYPES} edgeTypes=${EDGE_TYPES} ...${handlers}
      onMoveEnd=${keepView} defaultViewport=${viewport} fitView=${!viewport} fitViewOptions=${FIT}
      onlyRenderVisibleElements=${nodes.length > MANY} minZoom=${0.05} maxZoom=${3} snapGrid=${SNAP} deleteKeyCode=${null}
      nodesConnectable=${false} connectOnClick=${false} edgesReconnectable=${false}
      selectionKeyCode="Shift" multiSelectionKeyCode=${CHOOSE_MORE} selectionMode=${SelectionMode.Partial} zoomOnDoubleClick=${false}
      panOnScroll=${pans.isTrackpad} panOnScrollSpeed=${1} panActivationKeyCode=${null} elevateNodesOnSelect=${false} nodeDragThreshold=${3} tabIndex=${-1}
      edgesFocusable=${false} aria-label="Graph" ariaLabelConfig=${WORDS}>
      ${still}
      ${nodes.length >= MAPPED && html`<${Panel} position="bottom-right"><${Minimap} nodes=${nodes} /><//>`}
    <//><//>
  </div>`;
}

/**
 * What gestures need of React Flow.
 * @param {import("../vendor/flow.js").StoreApi<{draft: import("./wiring.js").Draft | null}>} drafts
 * @returns {() => Ground}
 */
function useGround(drafts) {
  const store = useStoreApi();
  return useCallback(() => ({
    element: /** @type {HTMLElement} */ (store.getState().domNode),
    nodes: () => /** @type {any[]} */ (store.getState().nodes),
    zoom: () => store.getState().transform[2],
    panBy: (by) => void store.getState().panBy(by),
    draw: (draft) => drafts.setState({ draft }),
  }), [drafts, store]);
}

/**
 * Lets the rest of the app move the view of a tab.
 * @param {import("../state/app.js").Tab} tab
 */
function useView(tab) {
  const flow = useReactFlow();
  useEffect(() => {
    const old = tab.view;
    tab.view = {
      fit: (ids) => void flow.fitView({ nodes: ids && [...ids].map((id) => ({ id })), maxZoom: 1, padding: 0.15, duration: MOVE_MS }),
      reveal(id) {
        tab.editor.select([id]);
        void flow.fitView({ nodes: [{ id }], maxZoom: Math.max(0.8, flow.getZoom()), duration: MOVE_MS });
      },
      middle() {
        const box = document.querySelector(".react-flow")?.getBoundingClientRect();
        return flow.screenToFlowPosition({ x: (box?.left ?? 0) + (box?.width ?? 0) / 2, y: (box?.top ?? 0) + (box?.height ?? 0) / 2 });
      },
      toFlow: (x, y) => flow.screenToFlowPosition({ x, y }),
      zoomTo: (zoom) => void flow.zoomTo(zoom, { duration: MOVE_MS }),
    };
    return () => {
      tab.view = old;
    };
  }, [tab, flow]);
}
