// What the header of every page does: language and colours.

import { byId } from "./dom.js";
import * as i18n from "./i18n.js";

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  byId("theme").value = theme;
}

// `onLanguage` shows again what is not marked with data-text.
export async function wireHeader(onLanguage) {
  const setLanguage = async (name) => {
    await i18n.use(name);
    byId("language").value = name;
    onLanguage();
  };
  setTheme(localStorage.getItem("theme") ?? "auto");
  byId("theme").addEventListener("change", (event) => setTheme(event.target.value));
  byId("language").addEventListener("change", (event) => setLanguage(event.target.value));
  await setLanguage(i18n.preferred());
}
