// What a person chooses, presets of it, and the button that starts.

import * as api from "./api.js";
import { attempt, byId, make, say } from "./dom.js";
import * as estimates from "./estimates.js";
import { duration, language, number, size, t } from "./i18n.js";
import * as memory from "./memory.js";
import * as look from "./look.js";
import { refresh } from "./main.js";
import * as queue from "./queue.js";

let shared;
let shownModels = "";
let strengthTouched = false;
let restored = false;
let there = { results: [], settings: {} };
const NAMES_SHOWN = 6;
const NUMBERS = ["quality", "crf"];

export function wire(state) {
  shared = state;
  const form = byId("settings-form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (wrongField()) return;
    const items = shared.items.filter((item) => shared.selected.has(item.id) && !item.error).map((item) => item.id);
    byId("start").disabled = true;
    const chosen = current();
    const queued = await attempt(api.post("/api/jobs", { items, settings: chosen }));
    if (queued) {
      showThere(queued.there, chosen);
      const lines = queued.jobs.length ? [t("queued", { count: queued.jobs.length })] : [];
      if (queued.there.length) lines.push(byId("there-text").textContent);
      say(lines.join(" "));
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
  form.addEventListener("input", showFields);
  for (const name of ["input", "pointerup"]) byId("strength").addEventListener(name, () => { strengthTouched = true; showStrength(); });
  byId("strength-default").addEventListener("click", () => {
    strengthTouched = false;
    byId("preset").value = "";
    byId("strength").focus(); // the button goes
    refresh();
    look.changed();
  });
  byId("preset").addEventListener("change", (event) => {
    const name = event.target.value;
    put(shared.presets[name] ?? {}); // "None" is the defaults
    event.target.value = name; // the form was reset, and this choice with it
    refresh();
    look.changed();
  });
  byId("there-close").addEventListener("click", () => showThere([], {}));
  byId("there-show").addEventListener("click", () => queue.details(there.results[0].job));
  byId("there-again").addEventListener("click", async () => {
    const items = there.results.map((result) => result.item);
    const queued = await attempt(api.post("/api/jobs", { items, settings: there.settings, again: true }));
    if (!queued) return;
    say(t("queued", { count: queued.jobs.length }));
    showThere([], {});
  });
  byId("ask-cancel").addEventListener("click", () => byId("ask").close());
  byId("save-preset").addEventListener("click", async () => {
    if (wrongField()) return;
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

// Results that were made before by the same settings: they are not made again unless a person asks for it.
function showThere(results, chosen) {
  there = { results, settings: chosen };
  byId("there").hidden = !results.length;
  const names = results.slice(0, NAMES_SHOWN).map((result) => result.name).join(", ");
  const some = results.length > NAMES_SHOWN ? t("andMore", { names, count: results.length - NAMES_SHOWN }) : names;
  byId("there-text").textContent = results.length ? t("there", { count: results.length, names: some }) : "";
}

// Bring back what was chosen at the last visit, once, when the models and presets are known.
export function restore(state) {
  if (restored) return;
  restored = true;
  showModels(state);
  showPresets();
  const last = memory.read("settings");
  if (last?.settings && typeof last.settings === "object") put(last.settings);
  byId("preset").value = last?.preset in state.presets ? last.preset : "";
}

export function show(state) {
  showModels(state);
  showPresets();
  showStrength();
  showFields();
  if (restored) memory.write("settings", { settings: current(), preset: byId("preset").value });
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
  for (const name of NUMBERS) if (data.get(name) && form.elements.namedItem(name).validity.valid) values[name] = Number(data.get(name));
  for (const name of ["hold", "source"]) if (data.get(name) !== "auto") values[name] = data.get(name);
  if (data.get("tta")) values.tta = true;
  return values;
}

// Values of an older page, which no control has any more, are left at their defaults.
function put(values) {
  const form = byId("settings-form");
  form.reset();
  const radios = [...form.elements.namedItem("model")];
  (radios.find((input) => input.value === values.model) ?? radios[0]).checked = true;
  fill(byId("size"), values.height ? `h${values.height}` : values.scale ? `x${values.scale}` : "");
  strengthTouched = typeof values.strength === "number" && values.strength >= 0 && values.strength <= 1;
  if (strengthTouched) byId("strength").value = String(values.strength);
  for (const name of ["format", "container", "codec", "hold", "source", ...NUMBERS]) {
    if (values[name] !== undefined) fill(form.elements.namedItem(name), String(values[name]));
  }
  form.elements.namedItem("tta").checked = Boolean(values.tta);
}

function fill(control, value) {
  const before = control.value;
  control.value = value;
  if (control.selectedIndex === -1 || !control.validity.valid) control.value = before;
}

// What is wrong with a number stands beside it; the server is not asked.
function showFields() {
  for (const name of NUMBERS) {
    const field = byId("settings-form").elements.namedItem(name);
    const line = byId(`${name}-error`);
    const wrong = !field.validity.valid;
    line.hidden = !wrong;
    field.setAttribute("aria-invalid", String(wrong));
    const text = wrong ? t("numberFromTo", { low: number(Number(field.min)), high: number(Number(field.max)), step: number(Number(field.step || 1)) }) : "";
    if (line.textContent !== text) line.textContent = text;
  }
}

// Lead to the first number that is out of range; false where there is none.
function wrongField() {
  const field = NUMBERS.map((name) => byId("settings-form").elements.namedItem(name)).find((one) => !one.validity.valid);
  if (!field) return false;
  field.closest("details").open = true;
  field.focus();
  return true;
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
  const chosen = strengthTouched && !range.disabled;
  if (!strengthTouched) range.value = "0.5"; // nothing was chosen: the thumb stands hollow in the middle
  range.classList.toggle("undetermined", !chosen);
  const text = chosen ? number(Number(range.value)) : t("strengthDefault");
  byId("strength-text").textContent = text;
  range.setAttribute("aria-valuetext", text);
  byId("strength-default").hidden = !chosen;
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
