// Looking before the work: a crop of the file, upscaled at once, beside the source.

import * as api from "./api.js";
import * as estimates from "./estimates.js";
import { byId, make, wireCompare, wireMedia } from "./dom.js";
import { clock, forPage, number, t } from "./i18n.js";
import * as settings from "./settings.js";

// The crop is so many pixels of the result wide and high at zoom 1:1.
const VIEW = { width: 640, height: 480 };
let shared;
let shown = null;
let place = { x: 0.5, y: 0.5 };
let waiting = false;
let again = false;
let timer = 0;
let last = null; // the answer that is shown

export function wire(state) {
  shared = state;
  wireCompare(byId("compare"), byId("compare-after"), byId("compare-line"), byId("slider"));
  byId("overview").addEventListener("click", (event) => {
    const box = byId("overview-image").getBoundingClientRect();
    move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  });
  byId("overview").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    move(place.x + step[0] * 0.05, place.y + step[1] * 0.05);
  });
  byId("zoom").addEventListener("change", changed);
  byId("time").addEventListener("input", () => {
    byId("time-text").textContent = clock(Number(byId("time").value));
    clearTimeout(timer);
    timer = setTimeout(() => { loadOverview(); changed(); }, 250);
  });
  byId("play-clip").addEventListener("click", playClip);
  byId("compare-models").addEventListener("click", compareModels);
  byId("overview-image").addEventListener("load", showCrop);
  for (const id of ["overview-image", "compare-before", "compare-after", "clip"]) wireMedia(byId(id));
  window.addEventListener("resize", showCrop);
}

const item = () => shared.items.find((one) => one.id === shared.current && one.info && !one.error);
const time = () => (byId("look-time").hidden ? 0 : Number(byId("time").value));

export function show(state) {
  const now = item();
  byId("look-empty").hidden = Boolean(now);
  byId("look-body").hidden = !now;
  byId("overview").setAttribute("aria-label", t("overviewLabel"));
  if (now) showPlan(now);
  showSeconds();
  if (!now || shown === now.id) return;
  shown = now.id;
  place = { x: 0.5, y: 0.5 };
  byId("look-name").textContent = now.name;
  const seconds = now.info.duration_s ?? 0;
  byId("look-time").hidden = !seconds;
  byId("time").max = String(Math.max(0, seconds - 0.05));
  byId("time").value = String(Math.min(seconds / 3, Math.max(0, seconds - 0.05)));
  byId("time-text").textContent = clock(Number(byId("time").value));
  byId("clip").hidden = true;
  byId("clip").removeAttribute("src");
  byId("models-side").replaceChildren();
  loadOverview();
  changed();
}

function fail(message) {
  byId("look-error").textContent = message;
  byId("look-error").hidden = !message;
}

function loadOverview() {
  const now = item();
  if (now) byId("overview-image").src = `/api/items/${now.id}/frame?time=${time()}`;
}

function move(x, y) {
  place = { x: Math.max(0, Math.min(1, x)), y: Math.max(0, Math.min(1, y)) };
  showCrop();
  changed();
}

function scaleOf(now) {
  const values = settings.current();
  if (values.height) return values.height / now.info.height;
  if (values.scale) return values.scale;
  const model = shared.models.find((one) => one.name === values.model);
  return model?.scale ?? 2;
}

// The crop in pixels of the source.
function crop(now) {
  const zoom = Number(byId("zoom").value) * scaleOf(now);
  const width = Math.min(now.info.width, Math.max(16, Math.round(VIEW.width / zoom)));
  const height = Math.min(now.info.height, Math.max(16, Math.round(VIEW.height / zoom)));
  const left = Math.max(0, Math.min(now.info.width - width, Math.round(place.x * now.info.width - width / 2)));
  const top = Math.max(0, Math.min(now.info.height - height, Math.round(place.y * now.info.height - height / 2)));
  return [left, top, width, height];
}

function showCrop() {
  const now = item();
  if (!now) return;
  const box = byId("overview-image").getBoundingClientRect();
  const [left, top, width, height] = crop(now);
  const style = byId("crop").style;
  style.left = `${(left / now.info.width) * box.width}px`;
  style.top = `${(top / now.info.height) * box.height}px`;
  style.width = `${(width / now.info.width) * box.width}px`;
  style.height = `${(height / now.info.height) * box.height}px`;
}

// Called when anything changed: one request at a time, and the last change always counts.
export function changed() {
  showCrop();
  if (waiting) { again = true; return; }
  preview();
}

async function preview() {
  const now = item();
  if (!now) return;
  waiting = true;
  again = false;
  byId("compare-wait").hidden = false;
  byId("compare").setAttribute("aria-busy", "true");
  try {
    const answer = await api.post(`/api/items/${now.id}/preview`, { time: time(), box: crop(now), settings: settings.current() });
    if (now.id === shared.current) {
      byId("compare").classList.toggle("pixels", Number(byId("zoom").value) >= 4);
      byId("compare-before").src = answer.before;
      byId("compare-after").src = answer.after;
      byId("compare-before").alt = t("before");
      byId("compare-after").alt = t("after");
      last = answer;
      showSeconds();
      fail("");
    }
  } catch (error) {
    fail(error.message || t("offline"));
  }
  waiting = false;
  byId("compare-wait").hidden = true;
  byId("compare").setAttribute("aria-busy", "false");
  if (again) changed();
}

function showSeconds() {
  byId("look-seconds").textContent = last ? t("previewSeconds", { model: last.model, seconds: number(last.seconds, 2) }) : "";
}

function showPlan(now) {
  const answer = estimates.of(now);
  if (!answer || answer.error) {
    byId("plan").replaceChildren(answer ? make("div", { class: "error" }, answer.error) : t("measuring"));
    return;
  }
  const lines = [...answer.streams, ...answer.notices];
  const list = lines.length ? make("ul", {}, ...lines.map((line) => make("li", {}, forPage(line)))) : null;
  byId("plan").replaceChildren(make("div", {}, t("plan", { name: answer.name, size: answer.size })), make("div", {}, estimates.line(now)), ...(list ? [list] : []));
}

async function compareModels() {
  const now = item();
  if (!now) return;
  byId("compare-models").disabled = true;
  byId("models-side").replaceChildren();
  for (const model of shared.models) {
    try {
      const answer = await api.post(`/api/items/${now.id}/preview`, { time: time(), box: crop(now), settings: settings.current(model.name) });
      if (now.id !== shared.current) break;
      byId("models-side").append(make("figure", {}, wireMedia(make("img", { src: answer.after, alt: model.name })), make("figcaption", { class: "soft" }, `${model.name} · ${number(answer.seconds, 2)} s`)));
    } catch (error) {
      byId("models-side").append(make("figure", {}, make("figcaption", { class: "error" }, `${model.name}: ${error.message || t("offline")}`)));
    }
  }
  byId("compare-models").disabled = false;
}

async function playClip() {
  const now = item();
  if (!now) return;
  const button = byId("play-clip");
  button.disabled = true;
  button.textContent = t("working");
  try {
    const answer = await api.post(`/api/items/${now.id}/clip`, { time: time(), seconds: 3, settings: settings.current() });
    if (now.id === shared.current) {
      const clip = byId("clip");
      clip.src = answer.clip;
      clip.hidden = false;
      clip.play().catch(() => {});
    }
  } catch (error) {
    fail(error.message || t("offline"));
  }
  button.disabled = false;
  button.textContent = t("playClip");
}
