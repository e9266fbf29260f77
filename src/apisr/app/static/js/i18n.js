// Texts in three languages. Numbers, sizes and times are written by the browser's own rules.

export const LANGUAGES = ["en", "ja", "zh-Hans"];
let texts = {};
let fallback = {};
export let language = "en";

export function preferred() {
  const kept = localStorage.getItem("language");
  if (LANGUAGES.includes(kept)) return kept;
  for (const wish of navigator.languages ?? []) {
    if (wish.startsWith("ja")) return "ja";
    if (wish.startsWith("zh")) return "zh-Hans";
    if (wish.startsWith("en")) return "en";
  }
  return "en";
}

// Throws where the texts are not to be had; the language then stays.
export async function use(name) {
  const read = async (file) => {
    const response = await fetch(`/static/i18n/${file}.json`);
    if (!response.ok) throw new Error(response.statusText);
    return response.json();
  };
  try {
    if (fallback.skip === undefined) fallback = await read("en");
    texts = name === "en" ? fallback : await read(name);
    language = name;
    localStorage.setItem("language", name);
  } finally {
    document.documentElement.lang = language;
    for (const element of document.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
    for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", t(element.dataset.label));
  }
}

// t("added", {count: 3}): {count} is put in; "key#one" is taken where the language has a singular and count is 1.
export function t(key, values = {}) {
  let text = texts[key] ?? fallback[key] ?? key;
  if ("count" in values && new Intl.PluralRules(language).select(values.count) === "one") text = texts[`${key}#one`] ?? text;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

// Options of the command line, and the texts of the controls that set them here.
export const CONTROLS = {
  "--model": "model", "--scale": "size", "--height": "size", "--strength": "strength", "--source": "sourceIs", "--tta": "tta",
  "--format": "pictureFormat", "--quality": "quality", "--container": "container", "--codec": "codec", "--crf": "crf", "--hold": "hold",
};

// A message of the package, whose advice names options of the command line, in the words of this page: an option is
// called as its control is; of one without a control it is said where it can be given. Quoted names stay as they are.
export function forPage(message) {
  const others = new Set();
  const said = message.replace(/(^|[\s(])('[^']*'|--[a-z][a-z-]*|-[a-z])(?![\w-])/g, (all, before, word) => {
    if (word.startsWith("'")) return all;
    if (word in CONTROLS) return before + t("control", { name: t(CONTROLS[word]).replace(/\s*[(（].*$/, "") });
    others.add(word);
    return all;
  });
  return others.size ? `${said} ${t("commandOnly", { options: [...others].join(", ") })}` : said;
}

export function size(bytes) {
  if (bytes < 1000) return new Intl.NumberFormat(language, { style: "unit", unit: "byte", unitDisplay: "long" }).format(bytes);
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  let index = 0;
  while (bytes >= 1000 && index < units.length - 1) { bytes /= 1000; index += 1; }
  return new Intl.NumberFormat(language, { style: "unit", unit: units[index], unitDisplay: "short", maximumSignificantDigits: 3 }).format(bytes);
}

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "";
  if (seconds >= 3600) return t("hours", { hours: Math.floor(seconds / 3600), minutes: Math.round((seconds % 3600) / 60) });
  if (seconds >= 90) return t("minutes", { minutes: Math.round(seconds / 60) });
  return t("seconds", { seconds: Math.max(1, Math.round(seconds)) });
}

export function clock(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":") + (seconds % 1).toFixed(2).slice(1);
}

// Writers of numbers are expensive to make and are kept.
const writers = new Map();

export function number(value, digits = 3) {
  const key = `${language} ${digits}`;
  if (!writers.has(key)) writers.set(key, new Intl.NumberFormat(language, { maximumSignificantDigits: digits }));
  return writers.get(key).format(value);
}
