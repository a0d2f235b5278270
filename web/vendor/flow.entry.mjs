// What flow.js holds. Its types: flow.d.ts.
import htm from "htm";
import React from "react";

export { React };
export {
  Children, Component, Fragment, StrictMode, Suspense, cloneElement, createContext, createElement, createRef, forwardRef,
  isValidElement, lazy, memo, startTransition, use, useActionState, useCallback, useContext, useDebugValue,
  useDeferredValue, useEffect, useEffectEvent, useId, useImperativeHandle, useInsertionEffect, useLayoutEffect, useMemo,
  useOptimistic, useReducer, useRef, useState, useSyncExternalStore, useTransition,
} from "react";
export { createPortal, flushSync } from "react-dom";
export { createRoot } from "react-dom/client";
export * from "@xyflow/react";
export { useStore as useZustand } from "zustand";
export { shallow } from "zustand/shallow";
export { useStoreWithEqualityFn } from "zustand/traditional";
export { createStore } from "zustand/vanilla";
export { default as fuzzysort } from "fuzzysort";
export * as keyval from "idb-keyval";
export const html = htm.bind(React.createElement);
