// The types of flow.js, from the packages it is made of (npm ci here brings them).
import type { ReactElement } from "react";

export {
  Component, Fragment, Suspense, createContext, lazy, memo, useCallback, useContext, useEffect, useId, useLayoutEffect,
  useMemo, useRef, useState,
} from "react";
export type {
  CSSProperties, ComponentType, Context, DependencyList, Dispatch, FC, PropsWithChildren, ReactElement, ReactNode, Ref,
  RefObject, SetStateAction,
} from "react";
export { createPortal, flushSync } from "react-dom";
export { createRoot } from "react-dom/client";
export type * from "@xyflow/react";
export {
  Background, Panel, Position, ReactFlow, ReactFlowProvider, SelectionMode, ViewportPortal, applyNodeChanges, getBezierPath,
  useReactFlow, useStore, useStoreApi,
} from "@xyflow/react";
export { useStore as useZustand } from "zustand";
export { shallow } from "zustand/shallow";
export { useStoreWithEqualityFn } from "zustand/traditional";
export { createStore } from "zustand/vanilla";
export type { StoreApi } from "zustand/vanilla";
export * as keyval from "idb-keyval";

/** A template as a React element: ``html`<${Button} onClick=${run}>Run<//>` ``. It has one root. */
export function html(strings: TemplateStringsArray, ...values: unknown[]): ReactElement;
