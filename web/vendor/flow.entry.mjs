// What flow.js holds. Its types: flow.d.ts.
import htm from "htm";
import React from "react";

export {
  Component, Fragment, Suspense, createContext, lazy, memo, useCallback, useContext, useEffect, useId, useLayoutEffect,
  useMemo, useRef, useState,
} from "react";
export { createPortal, flushSync } from "react-dom";
export { createRoot } from "react-dom/client";
export {
  Background, Panel, Position, ReactFlow, ReactFlowProvider, SelectionMode, ViewportPortal, applyNodeChanges, getBezierPath,
  useReactFlow, useStore, useStoreApi,
} from "@xyflow/react";
export { useStore as useZustand } from "zustand";
export { shallow } from "zustand/shallow";
export { useStoreWithEqualityFn } from "zustand/traditional";
export { createStore } from "zustand/vanilla";
export * as keyval from "idb-keyval";
export const html = htm.bind(React.createElement);
