/** What can be shown at the sides and over the page, by name: the one place to add a panel or a dialog. */

import { deferred } from "../later.js";
import { Problems, ProblemsBadge } from "./Problems.js";
import { Queue, QueueBadge } from "./Queue.js";

/** @typedef {{title: string, Panel: (props: any) => any, Badge?: () => any, icon?: string}} Place */

/** @type {Record<string, Place>} */
export const LEFT = {
  library: { title: "Library", Panel: deferred(() => import("./Library.js"), "Library"), icon: "folder" },
  models: { title: "Models", Panel: deferred(() => import("./Models.js"), "Models"), icon: "model" },
};

/** @type {Record<string, Place>} */
export const RIGHT = {
  queue: { title: "Queue", Panel: Queue, Badge: QueueBadge },
  gallery: { title: "Gallery", Panel: deferred(() => import("./Gallery.js"), "Gallery") },
  problems: { title: "Problems", Panel: Problems, Badge: ProblemsBadge },
  form: { title: "Form", Panel: deferred(() => import("./FormPanel.js"), "FormPanel") },
};

/** Over the canvas: starters, what other windows saved, drops. */
export const OverCanvas = deferred(() => import("./OverCanvas.js"), "OverCanvas");

/** Keys and clipboard of the graph. */
export const GraphKeys = deferred(() => import("./graphKeys.js"), "GraphKeys");

/** The form in place of the graph. */
export const Form = deferred(() => import("./FormView.js"), "FormView");

/** Dialogs and menus; each is given what it was shown with, and `onClose`. @type {Record<string, (props: any) => any>} */
export const OVERLAYS = {
  about: deferred(() => import("./About.js"), "About"),
  commands: deferred(() => import("./Commands.js"), "Commands"),
  compare: deferred(() => import("./Compare.js"), "Compare"),
  conflict: deferred(() => import("./ConflictDialog.js"), "ConflictDialog"),
  find: deferred(() => import("./Find.js"), "Find"),
  keys: deferred(() => import("./Commands.js"), "KeySheet"),
  mask: deferred(() => import("./MaskEditor.js"), "MaskEditor"),
  menu: deferred(() => import("./Menu.js"), "Menu"),
  palette: deferred(() => import("./Palette.js"), "Palette"),
  "picture-menu": deferred(() => import("./PictureActions.js"), "PictureMenu"),
  rename: deferred(() => import("./RenameDialog.js"), "RenameDialog"),
  run: deferred(() => import("./RunDetails.js"), "RunDetails"),
  save: deferred(() => import("./SaveDialog.js"), "SaveDialog"),
  versions: deferred(() => import("./Versions.js"), "Versions"),
  viewer: deferred(() => import("./Viewer.js"), "Viewer"),
};
