/** Dark or light: what the reader chose, else what the system says, else dark. */

import { useEffect, useState } from "../vendor/flow.js";

const KEY = "nodegraph.theme";

/** The theme that is chosen or wanted by the system. */
export function themeNow() {
  const chosen = localStorage.getItem(KEY);
  if (chosen === "light" || chosen === "dark") return chosen;
  return matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
}

/** Draws the page in a theme. @param {string} theme */
export function applyTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

/** The theme, and a function that changes to the other one and remembers it. */
export function useTheme() {
  const [theme, setTheme] = useState(themeNow);
  useEffect(() => applyTheme(theme), [theme]);
  const change = () => {
    const next = theme === "dark" ? "light" : "dark";
    localStorage.setItem(KEY, next);
    setTheme(next);
  };
  return { theme, change };
}
