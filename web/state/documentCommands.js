/** The commands of documents: tabs, files, the library. */

import { closeTab, newTab, reopenTab, turnTab } from "./tabs.js";

/** @type {import("../commands.js").Command[]} */
export const DOCUMENT_COMMANDS = [
  { id: "save", title: "Save", keys: ["Ctrl+s"], where: "anywhere", section: "Workflow", run: async (app) => (await import("./saving.js")).save(app) },
  { id: "save-as", title: "Save as…", keys: ["Ctrl+Shift+S"], where: "anywhere", section: "Workflow", run: (app) => app.show({ kind: "save", id: app.tab.id }) },
  { id: "open-file", title: "Open file…", keys: ["Ctrl+o"], where: "anywhere", section: "Workflow", run: async (app) => (await import("./opening.js")).pickFiles(app) },
  { id: "library", title: "Library of workflows", keys: ["w"], where: "canvas", section: "Workflow", run: (app) => app.store.setState(({ left }) => ({ left: left === "library" ? "" : "library" })) },
  { id: "new-tab", title: "New tab", keys: ["Alt+t"], where: "anywhere", section: "Workflow", run: newTab },
  { id: "close-tab", title: "Close the tab", keys: ["Alt+w"], where: "anywhere", section: "Workflow", run: (app) => closeTab(app, app.tab.id) },
  { id: "reopen-tab", title: "Reopen the tab that was closed last", keys: ["Alt+Shift+T"], where: "anywhere", section: "Workflow", run: reopenTab },
  { id: "next-tab", title: "Next tab", keys: ["Alt+PageDown"], where: "anywhere", section: "Workflow", run: (app) => turnTab(app, 1) },
  { id: "previous-tab", title: "Previous tab", keys: ["Alt+PageUp"], where: "anywhere", section: "Workflow", run: (app) => turnTab(app, -1) },
  { id: "versions", title: "Versions of this workflow…", keys: [], where: "anywhere", section: "Workflow", run: (app) => (app.tabState.workflow ? app.show({ kind: "versions", name: app.tabState.workflow }) : app.announce("It is not saved yet.")) },
  { id: "download", title: "Download the workflow", keys: [], where: "anywhere", section: "Workflow", run: async (app) => (await import("./saving.js")).download(app, "document") },
  { id: "download-api", title: "Download for ComfyUI's API", keys: [], where: "anywhere", section: "Workflow", run: async (app) => (await import("./saving.js")).download(app, "api") },
];
