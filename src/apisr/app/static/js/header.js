// What the header of every page does: language and colours.

import { byId } from "./dom.js";
import * as i18n from "./i18n.js";

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  byId("theme").value = theme;
}

// `onLanguage` shows again what is not marked with data-text; `onTrouble` says that no texts came.
export async function wireHeader(onLanguage, onTrouble) {
  const setLanguage = async (name) => {
    try { await i18n.use(name); } catch { onTrouble(); }
    byId("language").value = i18n.language;
    onLanguage();
  };
  setTheme(localStorage.getItem("theme") ?? "auto");
  byId("theme").addEventListener("change", (event) => setTheme(event.target.value));
  byId("language").addEventListener("change", (event) => setLanguage(event.target.value));
  await setLanguage(i18n.preferred());
}
