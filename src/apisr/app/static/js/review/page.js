// The review page: a list of datasets and reports, a report in its frame, or the sheet of one dataset.

import * as api from "../api.js";
import { byId, make } from "../dom.js";
import { wireHeader } from "../header.js";
import { t } from "../i18n.js";
import * as sheet from "./sheet.js";

const wish = new URLSearchParams(location.search);
let library = null;

export function problem(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

function showLibrary() {
  if (!library) return;
  byId("to-upscale").hidden = library.alone;
  if (byId("library").hidden) return;
  const none = !library.datasets.length && !library.reports.length;
  byId("library-empty").hidden = !none && !library.more;
  byId("library-empty").textContent = !library.folder ? t("libraryNoFolder") : none ? t("libraryEmpty", { folder: library.folder }) : t("libraryMore");
  for (const kind of ["datasets", "reports"]) {
    byId(`${kind}-title`).hidden = !library[kind].length;
    const word = kind === "datasets" ? "dataset" : "report";
    byId(kind).replaceChildren(...library[kind].map((entry) =>
      make("li", {}, make("a", { href: `/review?${word}=${entry.id}` }, entry.place || entry.name))));
  }
}

function showReport() {
  const entry = library.reports.find((one) => one.id === wish.get("report"));
  const name = entry ? entry.place || entry.name : t("report");
  byId("report").hidden = false;
  byId("report-title").textContent = name;
  byId("report-frame").title = name;
  byId("report-frame").src = `/reports/${encodeURIComponent(wish.get("report"))}`;
  byId("report-back").href = wish.get("from") ? `/review?dataset=${encodeURIComponent(wish.get("from"))}` : "/review";
  document.title = `${name} - apisr`;
}

async function start() {
  await wireHeader(() => { showLibrary(); sheet.relabel(); }, () => problem(t("offlineReview")));
  try {
    if (wish.get("dataset")) {
      byId("to-upscale").hidden = (await sheet.open(wish.get("dataset"))).alone;
    } else {
      library = await api.get("/api/library");
      if (wish.get("report")) showReport();
      else byId("library").hidden = false;
    }
    showLibrary();
  } catch (error) {
    problem(error.message || t("offlineReview"));
  }
  document.documentElement.dataset.ready = "yes";
}

start();
