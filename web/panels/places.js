/** What can be shown at the sides and over the page, by name: the one place to add a panel or a dialog. */

import { Problems } from "./Problems.js";
import { Queue } from "./Queue.js";

/** @typedef {{title: string, Panel: (props: any) => any}} Place */

/** @type {Record<string, Place>} */
export const LEFT = {};

/** @type {Record<string, Place>} */
export const RIGHT = {
  queue: { title: "Queue", Panel: Queue },
  problems: { title: "Problems", Panel: Problems },
};

/** Dialogs and menus; each is given what it was shown with, and `onClose`. @type {Record<string, (props: any) => any>} */
export const OVERLAYS = {};
