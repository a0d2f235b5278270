// The types of flow.js, from the packages it is made of (npm ci here brings them).
import type { HandleProps } from "@xyflow/react";
import type { ReactElement, Ref } from "react";
import * as React from "react";

export { React };
export {
  Children, Component, Fragment, StrictMode, Suspense, cloneElement, createContext, createElement, createRef, forwardRef,
  isValidElement, lazy, memo, startTransition, use, useActionState, useCallback, useContext, useDebugValue,
  useDeferredValue, useEffect, useEffectEvent, useId, useImperativeHandle, useInsertionEffect, useLayoutEffect, useMemo,
  useOptimistic, useReducer, useRef, useState, useSyncExternalStore, useTransition,
} from "react";
export type {
  CSSProperties, ComponentType, Context, DependencyList, Dispatch, FC, PropsWithChildren, ReactElement, ReactNode, Ref,
  RefObject, SetStateAction,
} from "react";
export { createPortal, flushSync } from "react-dom";
export { createRoot } from "react-dom/client";
export * from "@xyflow/react";
/** The component; React Flow's own index hides it behind a type of this name. */
export const Handle: React.ComponentType<HandleProps & { ref?: Ref<HTMLDivElement> }>;
export { useStore as useZustand } from "zustand";
export { shallow } from "zustand/shallow";
export { useStoreWithEqualityFn } from "zustand/traditional";
export { createStore } from "zustand/vanilla";
export type { StoreApi } from "zustand/vanilla";
export { default as fuzzysort } from "fuzzysort";
export * as keyval from "idb-keyval";

/** A template as a React element: ``html`<${Button} onClick=${run}>Run<//>` ``. It has one root. */
export function html(strings: TemplateStringsArray, ...values: unknown[]): ReactElement;
