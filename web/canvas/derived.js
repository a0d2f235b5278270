/** What React Flow draws of a tab, kept in step with its document and selection, and what its changes write there. */

import { applyNodeChanges, useCallback, useEffect, useMemo, useRef, useState, useStoreApi } from "../vendor/flow.js";
import { isWire } from "../graph/wiring.js";
import { useDragging } from "./dragging.js";
import { flowEdges, flowNodes, isDrawnAlike } from "./flow.js";

/** @import {App, Tab} from "../state/app.js" */
/** @import {Doc, Specs} from "../graph/types.js" */
/** @import {FlowEdge, FlowNode} from "./flow.js" */

/**
 * The nodes and wires of a tab, and React Flow's handlers that change them.
 * @param {App} app
 * @param {Tab} tab
 * @param {Specs} specs
 */
export function useGraph(app, tab, specs) {
  const { editor } = tab;
  const { nodes, edges, setNodes } = useDerived(tab, specs);
  const dragging = useDragging(app, tab, useStoreApi(), setNodes);
  const select = useCallback((/** @type {any[]} */ changes) => {
    const chosen = changes.filter((change) => change.type === "select");
    const { doc, selection } = editor.store.getState();
    if (chosen.length) editor.select(after(new Set([...selection].filter((id) => isThere(doc, id))), chosen));
  }, [editor]);
  const onNodesChange = useCallback((/** @type {any[]} */ changes) => {
    select(changes);
    const own = dragging.withCarried(changes.filter(({ type }) => type === "position" || type === "dimensions"));
    if (!own.length) return;
    setNodes((old) => /** @type {FlowNode[]} */ (applyNodeChanges(own, old)));
    const moved = own.filter((change) => change.type === "position" && change.dragging === false && change.position);
    if (moved.length) dragging.drop(moved);
  }, [dragging, select, setNodes]);
  return { nodes, edges, onNodesChange, onEdgesChange: select, onNodeDragStart: dragging.start, onNodeDrag: dragging.go, onNodeDragStop: dragging.stop };
}

/** @param {Tab} tab @param {Specs} specs */
function useDerived({ editor }, specs) {
  const made = useRef({ doc: /** @type {Doc | null} */ (null), selection: /** @type {ReadonlySet<string>} */ (new Set()), specs });
  const [nodes, setNodes] = useState(/** @type {FlowNode[]} */ ([]));
  const [edges, setEdges] = useState(/** @type {FlowEdge[]} */ ([]));
  const derive = useCallback(() => {
    const { doc, selection } = editor.store.getState();
    const before = made.current;
    if (before.specs === specs && before.selection === selection && isDrawnAlike(doc, before.doc)) return;
    const known = before.specs === specs ? before.doc : null;
    made.current = { doc, selection, specs };
    setNodes((old) => flowNodes(doc, specs, selection, old, known));
    if (doc.nodes !== known?.nodes || selection !== before.selection) setEdges((old) => flowEdges(doc, specs, selection, old, known));
  }, [editor, specs]);
  useMemo(derive, [derive]);
  useEffect(() => {
    derive();
    return editor.store.subscribe(derive);
  }, [editor, derive]);
  return { nodes, edges, setNodes };
}

/** @param {Doc} doc @param {string} id */
function isThere(doc, id) {
  return id in doc.nodes || isWire(doc, id) || id in (doc.ui?.notes ?? {}) || (doc.ui?.groups ?? []).some((group) => group.id === id);
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
