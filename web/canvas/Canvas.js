/** The graph of a tab: nodes and wires, moved and drawn with mouse, touch and keys. */

import {
  Background, MiniMap, ReactFlow, ReactFlowProvider, SelectionMode, applyNodeChanges, html, useCallback, useEffect,
  useMemo, useReactFlow, useRef, useState,
} from "../vendor/flow.js";
import { connect, move, remove, setInput } from "../graph/document.js";
import { GRID } from "../graph/geometry.js";
import { misfit } from "../graph/ports.js";
import { useApp, useAppState, useTab } from "../state/use.js";
import { flowEdges, flowNodes } from "./flow.js";
import { GraphNode } from "./Node.js";
import { Wire } from "./Wire.js";

/** @import {FlowEdge, FlowNode} from "./flow.js" */

const NODE_TYPES = { node: GraphNode };
const EDGE_TYPES = { wire: Wire };
const MANY = 120; // nodes from which on those out of view are not in the page

/** The canvas of the tab around it. */
export function Canvas() {
  return html`<${ReactFlowProvider}><${Flow} /><//>`;
}

function Flow() {
  const app = useApp();
  const tab = useTab();
  const specs = useAppState((state) => state.specs);
  const { nodes, edges, setNodes } = useDerived(tab, specs);
  useView(tab);
  const { editor } = tab;

  const onNodesChange = useCallback((/** @type {any[]} */ changes) => {
    const chosen = changes.filter((change) => change.type === "select");
    if (chosen.length) editor.select(after(editor.store.getState().selection, chosen));
    setNodes((old) => /** @type {FlowNode[]} */ (applyNodeChanges(changes.filter((change) => change.type !== "remove" && change.type !== "select"), old)));
    const moved = changes.filter((change) => change.type === "position" && change.dragging === false && change.position);
    if (moved.length) editor.edit("Move", (doc) => move(doc, new Map(moved.map(({ id, position }) => [id, [Math.round(position.x), Math.round(position.y)]]))));
  }, [editor]);
  const onEdgesChange = useCallback((/** @type {any[]} */ changes) => {
    const chosen = changes.filter((change) => change.type === "select");
    if (chosen.length) editor.select(after(editor.store.getState().selection, chosen));
  }, [editor]);
  const onDelete = useCallback((/** @type {{nodes: FlowNode[], edges: FlowEdge[]}} */ gone) => {
    editor.edit("Delete", (doc) => {
      const ids = new Set(gone.nodes.map((node) => node.id));
      const wires = gone.edges.filter((edge) => !ids.has(edge.target) && !ids.has(edge.source));
      const cut = wires.reduce((found, edge) => setInput(found, edge.target, inputOf(edge.targetHandle), undefined), doc);
      return remove(cut, ids);
    });
  }, [editor]);
  const onConnect = useCallback((/** @type {any} */ wire) => {
    editor.edit("Connect", (doc) => connect(doc, app.specs, [wire.source, placeIn(wire.sourceHandle)], wire.target, inputOf(wire.targetHandle)));
  }, [app, editor]);
  const isValid = useCallback((/** @type {any} */ wire) => (
    !misfit(editor.doc, app.specs, [wire.source, placeIn(wire.sourceHandle)], wire.target, inputOf(wire.targetHandle))
  ), [app, editor]);

  return html`<${ReactFlow}
    nodes=${nodes} edges=${edges} nodeTypes=${NODE_TYPES} edgeTypes=${EDGE_TYPES}
    onNodesChange=${onNodesChange} onEdgesChange=${onEdgesChange} onDelete=${onDelete}
    onConnect=${onConnect} isValidConnection=${isValid}
    onMoveEnd=${(/** @type {any} */ _, /** @type {any} */ viewport) => editor.adjust((doc) => ({ ...doc, ui: { ...doc.ui, viewport } }))}
    defaultViewport=${editor.doc.ui?.viewport} fitView=${!editor.doc.ui?.viewport} fitViewOptions=${{ maxZoom: 1, padding: 0.1 }}
    onlyRenderVisibleElements=${nodes.length > MANY}
    minZoom=${0.05} maxZoom=${3} snapGrid=${[GRID, GRID]} deleteKeyCode=${["Delete", "Backspace"]}
    selectionKeyCode="Shift" multiSelectionKeyCode=${["Control", "Meta", "Shift"]} selectionMode=${SelectionMode.Partial} zoomOnDoubleClick=${false}
    panOnScroll=${false} connectionRadius=${28} elevateNodesOnSelect=${false} proOptions=${{ hideAttribution: false }}>
    <${Background} gap=${GRID} size=${1} />
    ${nodes.length >= 15 && html`<${MiniMap} pannable zoomable ariaLabel="Map of the graph" />`}
  <//>`;
}

/**
 * What React Flow draws of the tab, kept in step with its document and selection.
 * @param {import("../state/app.js").Tab} tab
 * @param {import("../graph/types.js").Specs} specs
 */
function useDerived({ editor }, specs) {
  const made = useRef({ doc: /** @type {import("../graph/types.js").Doc | null} */ (null), specs });
  const [nodes, setNodes] = useState(/** @type {FlowNode[]} */ ([]));
  const [edges, setEdges] = useState(/** @type {FlowEdge[]} */ ([]));
  const derive = useCallback(() => {
    const { doc, selection } = editor.store.getState();
    const before = made.current.specs === specs ? made.current.doc : null;
    made.current = { doc, specs };
    setNodes((old) => flowNodes(doc, specs, selection, old, before));
    setEdges((old) => flowEdges(doc, specs, selection, old, before));
  }, [editor, specs]);
  useMemo(derive, [derive]);
  useEffect(() => editor.store.subscribe(derive), [editor, derive]);
  return { nodes, edges, setNodes };
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
      fit: (ids) => void flow.fitView({ nodes: ids && [...ids].map((id) => ({ id })), maxZoom: 1, padding: 0.15, duration: 120 }),
      reveal(id) {
        tab.editor.select([id]);
        void flow.fitView({ nodes: [{ id }], maxZoom: Math.max(0.8, flow.getZoom()), duration: 120 });
      },
      middle() {
        const box = document.querySelector(".react-flow")?.getBoundingClientRect();
        return flow.screenToFlowPosition({ x: (box?.left ?? 0) + (box?.width ?? 0) / 2, y: (box?.top ?? 0) + (box?.height ?? 0) / 2 });
      },
      toFlow: (x, y) => flow.screenToFlowPosition({ x, y }),
      zoomTo: (zoom) => void flow.zoomTo(zoom, { duration: 120 }),
    };
    return () => {
      tab.view = old;
    };
  }, [tab, flow]);
}

/**
 * A selection after React Flow's changes of it.
 * @param {ReadonlySet<string>} selection
 * @param {{id: string, selected: boolean}[]} changes
 */
function after(selection, changes) {
  const found = new Set(selection);
  for (const { id, selected } of changes) selected ? found.add(id) : found.delete(id);
  return found;
}

/** @param {string | null | undefined} handle */
const inputOf = (handle) => (handle ?? "").replace(/^in:/, "");

/** @param {string | null | undefined} handle */
const placeIn = (handle) => Number((handle ?? "").replace(/^out:/, ""));
