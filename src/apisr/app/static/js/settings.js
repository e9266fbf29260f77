// What a person chooses, presets of it, and the button that starts.

import * as api from "./api.js";
import { attempt, byId, make, say } from "./dom.js";
import * as estimates from "./estimates.js";
import { duration, language, size, t } from "./i18n.js";
import * as look from "./look.js";
import { refresh } from "./main.js";

let shared;
let shownModels = "";
let strengthTouched = false;

export function wire(state) {
  shared = state;
  const form = byId("settings-form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const items = shared.items.filter((item) => shared.selected.has(item.id) && !item.error).map((item) => item.id);
    byId("start").disabled = true;
    const queued = await attempt(api.post("/api/jobs", { items, settings: current() }));
    if (queued) {
      say(t("queued", { count: queued.jobs.length }));
      shared.selected.clear();
      byId("queue").scrollIntoView({ block: "nearest" });
    }
    refresh();
  });
  form.addEventListener("change", (event) => {
    if (event.target.id === "strength") strengthTouched = true;
    if (event.target.name === "model") strengthTouched = false;
    if (event.target.id !== "preset") byId("preset").value = "";
    refresh();
    look.changed();
  });
  byId("strength").addEventListener("input", () => { strengthTouched = true; showStrength(); });
  byId("preset").addEventListener("change", (event) => {
    const name = event.target.value;
    if (shared.presets[name]) put(shared.presets[name]);
    event.target.value = name; // the form was reset, and this choice with it
    refresh();
    look.changed();
  });
  byId("ask-cancel").addEventListener("click", () => byId("ask").close());
  byId("save-preset").addEventListener("click", async () => {
    const name = await ask(t("presetName"));
    if (!name) return;
    const settings = current();
    if (!(await attempt(api.send("PUT", `/api/presets/${encodeURIComponent(name)}`, { settings })))) return;
    shared.presets = { ...shared.presets, [name]: settings };
    showPresets();
    byId("preset").value = name;
    refresh();
  });
  byId("remove-preset").addEventListener("click", async () => {
    const name = byId("preset").value;
    if (!(await attempt(api.send("DELETE", `/api/presets/${encodeURIComponent(name)}`)))) return;
    const { [name]: _, ...rest } = shared.presets;
    shared.presets = rest;
    refresh();
  });
}

export function show(state) {
  showModels(state);
  showPresets();
  showStrength();
  const count = state.items.filter((item) => state.selected.has(item.id) && !item.error).length;
  const start = byId("start");
  start.disabled = count === 0;
  start.textContent = count ? t("start", { count }) : t("startNone");
  const sum = estimates.total(state.items.filter((item) => state.selected.has(item.id) && !item.error));
  byId("start-total").textContent = sum ? `${t("estimate", { time: duration(sum.seconds) })}, ${t("estimateSize", { size: size(sum.bytes) })}` : "";
}

// The settings as the server takes them: what is left at its default is not said.
export function current(model) {
  const form = byId("settings-form");
  const data = new FormData(form);
  const values = {};
  const chosen = model ?? data.get("model");
  if (chosen) values.model = chosen;
  const wanted = data.get("size");
  if (wanted?.startsWith("x")) values.scale = Number(wanted.slice(1));
  if (wanted?.startsWith("h")) values.height = Number(wanted.slice(1));
  if (strengthTouched && !byId("strength").disabled) values.strength = Number(byId("strength").value);
  for (const name of ["format", "container", "codec"]) if (data.get(name)) values[name] = data.get(name);
  for (const name of ["quality", "crf"]) if (data.get(name)) values[name] = Number(data.get(name));
  for (const name of ["hold", "source"]) if (data.get(name) !== "auto") values[name] = data.get(name);
  if (data.get("tta")) values.tta = true;
  return values;
}

function put(values) {
  const form = byId("settings-form");
  form.reset();
  const radio = [...form.elements.namedItem("model")].find((input) => input.value === (values.model ?? ""));
  if (radio) radio.checked = true;
  byId("size").value = values.height ? `h${values.height}` : values.scale ? `x${values.scale}` : "";
  strengthTouched = values.strength !== undefined;
  if (strengthTouched) byId("strength").value = String(values.strength);
  for (const name of ["format", "container", "codec", "quality", "crf", "hold", "source"]) {
    if (values[name] !== undefined) form.elements.namedItem(name).value = String(values[name]);
  }
  form.elements.namedItem("tta").checked = Boolean(values.tta);
}

function showModels(state) {
  const mark = `${language} ${state.models.map((model) => model.name).join()}`;
  if (mark === shownModels) return;
  const kept = byId("settings-form").elements.namedItem("model")?.value ?? "";
  shownModels = mark;
  const automatic = { name: "", title: t("modelAuto"), text: t("modelAutoText") };
  const rows = [automatic, ...state.models].map((model) => {
    const radio = make("input", { type: "radio", name: "model", value: model.name });
    radio.checked = model.name === kept;
    const text = make("span", {}, make("span", { class: "name" }, model.title ?? model.name), make("br"), make("span", { class: "soft" }, sentence(model)));
    const picture = model.picture ? make("img", { src: model.picture, alt: "", loading: "lazy" }) : make("span", { class: "no-picture" });
    return make("label", { class: "model" }, radio, picture, text);
  });
  byId("models").replaceChildren(...rows);
}

// The sentence in the language of the page; the one of the model's card where there is none.
function sentence(model) {
  const key = `model-${model.name}`;
  const text = t(key);
  return text === key ? model.text ?? "" : text;
}

function showPresets() {
  const select = byId("preset");
  const kept = select.value;
  const names = Object.keys(shared.presets).sort();
  if ([...select.options].slice(1).map((option) => option.value).join("\n") !== names.join("\n")) {
    select.replaceChildren(select.options[0], ...names.map((name) => make("option", { value: name }, name)));
  }
  select.value = names.includes(kept) ? kept : "";
  byId("remove-preset").hidden = !select.value;
}

function showStrength() {
  const name = new FormData(byId("settings-form")).get("model");
  const model = shared.models.find((one) => one.name === name) ?? shared.models.find((one) => one.default);
  const range = byId("strength");
  range.disabled = !(model?.has_strength ?? false);
  if (!strengthTouched) range.value = "0";
  byId("strength-text").textContent = strengthTouched ? range.value : t("strengthDefault");
}

function ask(question) {
  const dialog = byId("ask");
  byId("ask-title").textContent = question;
  byId("ask-text").value = "";
  dialog.returnValue = ""; // Escape leaves the one of the last time
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok" ? byId("ask-text").value.trim() : ""), { once: true });
  });
}
