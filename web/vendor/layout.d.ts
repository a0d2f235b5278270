// The types of layout.js.
export { Graph, layout } from "@dagrejs/dagre";
