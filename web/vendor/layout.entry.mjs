// What layout.js holds: dagre, which lays a graph out. Loaded when a layout is asked for.
export { Graph, layout } from "@dagrejs/dagre";
