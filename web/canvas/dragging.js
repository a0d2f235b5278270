/** Nodes under the pointer: groups take along what lies in them, Alt makes copies, a wire below lets a node in. */

import { useCallback, useMemo, useRef } from "../vendor/flow.js";
import { move } from "../graph/document.js";
import { fragment, pasted } from "../graph/clipboard.js";
import { inserted } from "../graph/wiring.js";
import { markWire } from "./marks.js";
import { wireUnder } from "./under.js";

/** @import {App, Tab} from "../state/app.js" */
/** @import {Doc} from "../graph/types.js" */
/** @import {FlowEdge, FlowNode} from "./flow.js" */

/**
 * @typedef {object} Dragged
 * @property {Map<string, {group: string, dx: number, dy: number}>} carried what groups take along, by id
 * @property {boolean} isCopy
 * @property {boolean} isFree the node may be let into a wire
 * @property {string} wire that is below, "" for none
 *
 * @typedef {{id: string, type: "position", position?: {x: number, y: number}, dragging?: boolean}} Moved
 */

/**
 * Handlers of React Flow for a drag of nodes, `withCarried` for its changes and `drop` for its end.
 * @param {App} app
 * @param {Tab} tab
 * @param {{getState: () => any}} flow React Flow's store
 * @param {(change: (nodes: FlowNode[]) => FlowNode[]) => void} setNodes
 */
export function useDragging(app, tab, flow, setNodes) {
  const dragged = useRef(/** @type {Dragged | null} */ (null));
  const { editor } = tab;

  const start = useCallback((/** @type {MouseEvent} */ event, /** @type {FlowNode} */ _, /** @type {FlowNode[]} */ nodes) => {
    const all = /** @type {FlowNode[]} */ (flow.getState().nodes);
    const ids = new Set(nodes.map(({ id }) => id));
    const isFree = nodes.length === 1 && nodes[0].id in editor.doc.nodes && !flow.getState().edges.some((/** @type {FlowEdge} */ edge) => edge.source === nodes[0].id);
    dragged.current = { carried: contentsOf(nodes, all, ids), isCopy: event.altKey, isFree, wire: "" };
    if (event.altKey) setNodes((old) => [...old, ...old.filter(({ id }) => ids.has(id)).map(ghost)]);
  }, [editor, flow, setNodes]);

  const go = useCallback((/** @type {MouseEvent} */ _, /** @type {FlowNode} */ node) => {
    const drag = dragged.current;
    const { domNode, nodeLookup, edges } = flow.getState();
    if (!drag?.isFree || drag.isCopy) return;
    const wire = wireUnder(nodeLookup, edges, node, (id) => inserted(editor.doc, app.specs, node.id, id) !== null);
    if (wire !== drag.wire) markWire(domNode, wire, "target");
    drag.wire = wire;
  }, [app, editor, flow]);

  return useMemo(() => ({
    start,
    go,
    /** Ends a drag, whether it moved anything or not. */
    stop() {
      if (dragged.current?.isCopy) setNodes((old) => old.filter(({ className }) => className !== "is-ghost"));
      dragged.current = null;
    },
    /** The changes with those of what groups take along. @param {any[]} changes */
    withCarried(changes) {
      const { carried } = dragged.current ?? {};
      if (!carried?.size) return changes;
      const byId = new Map(changes.filter(({ type, position }) => type === "position" && position).map((change) => [change.id, change]));
      const more = [...carried].flatMap(([id, { group, dx, dy }]) => {
        const change = byId.get(group);
        return change ? [{ ...change, id, position: { x: change.position.x + dx, y: change.position.y + dy } }] : [];
      });
      return [...changes, ...more];
    },
    /** Writes where things were let go, as one step. @param {Moved[]} moved */
    drop(moved) {
      const drag = dragged.current;
      const places = new Map(moved.map(({ id, position }) => [id, /** @type {[number, number]} */ ([Math.round(position?.x ?? 0), Math.round(position?.y ?? 0)])]));
      if (drag?.isCopy) return copy(app, tab, places);
      if (!drag?.wire) return editor.edit("Move", (doc) => move(doc, places));
      markWire(flow.getState().domNode, "", "target");
      return editor.edit("Insert on a wire", (doc) => {
        const found = move(doc, places);
        return inserted(found, app.specs, moved[0].id, drag.wire) ?? found;
      });
    },
  }), [app, editor, flow, go, setNodes, start, tab]);
}

/** @param {App} app @param {Tab} tab @param {Map<string, [number, number]>} places */
function copy(app, tab, places) {
  const { editor } = tab;
  const [[first, [x, y]]] = places;
  const [left, top] = positionOf(editor.doc, first);
  /** @type {string[]} */
  let copies = [];
  editor.edit("Duplicate", (doc) => {
    const [found, ids] = pasted(doc, app.specs, fragment(doc, places.keys()), { shift: [x - left, y - top], isLinkedOutside: true });
    copies = ids;
    return found;
  });
  editor.select(copies);
}

/** @param {Doc} doc @param {string} id @returns {number[]} */
function positionOf(doc, id) {
  return doc.ui?.positions?.[id] ?? doc.ui?.notes?.[id]?.position ?? doc.ui?.groups?.find((group) => group.id === id)?.bounding ?? [0, 0];
}

/**
 * What lies in groups: what has its middle in one and is not dragged itself.
 * @param {FlowNode[]} dragged
 * @param {FlowNode[]} all
 * @param {Set<string>} ids
 */
function contentsOf(dragged, all, ids) {
  const found = new Map();
  for (const { id: group, type, position, measured } of dragged) {
    if (type !== "frame") continue;
    for (const node of all) {
      const dx = node.position.x - position.x;
      const dy = node.position.y - position.y;
      const [x, y] = [dx + (node.measured?.width ?? 0) / 2, dy + (node.measured?.height ?? 0) / 2];
      const isIn = x > 0 && y > 0 && x < (measured?.width ?? 0) && y < (measured?.height ?? 0);
      if (isIn && !ids.has(node.id) && !found.has(node.id)) found.set(node.id, { group, dx, dy });
    }
  }
  return found;
}

/** What stays in the place of a node while its copy is dragged away. @param {FlowNode} node @returns {FlowNode} */
function ghost(node) {
  return { ...node, id: `ghost:${node.id}`, selected: false, draggable: false, selectable: false, focusable: false, className: "is-ghost" };
}
