// Small helpers. Text always goes in as text, so that a file name is never markup.

import { reason } from "./api.js";
import { t } from "./i18n.js";

export const byId = (id) => document.getElementById(id);

export function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") element.className = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

// Bring the children of `parent` to `items`: elements are kept by key, made by `create` and brought up to date by `update`.
export function keyed(parent, items, key, create, update, forget) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let element = known.get(name);
    if (element) known.delete(name);
    else {
      element = create(item);
      element.dataset.key = name;
    }
    update(element, item);
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
  for (const element of known.values()) { forget?.(element); element.remove(); }
}

export function say(text) {
  const live = byId("live");
  live.textContent = "";
  requestAnimationFrame(() => { live.textContent = text; });
}

// Say what went wrong to everybody: in sight until it is closed, and read out by itself.
export function complain(text) {
  const banner = byId("trouble");
  const close = make("button", { type: "button", class: "small", onclick: () => { banner.hidden = true; } }, t("close"));
  banner.replaceChildren(make("span", {}, text), " ", close);
  banner.hidden = false;
}

// Wait for an answer; `undefined` where none comes, after saying why.
export async function attempt(promise) {
  try {
    return await promise;
  } catch (error) {
    complain(error.message || t("offline"));
    return undefined;
  }
}

// Say why a picture or a clip is not shown: the element itself would stay empty without a word.
export function wireMedia(element, tell = complain) {
  element.addEventListener("error", async () => {
    const source = element.getAttribute("src");
    if (!source) return;
    const error = await reason(source);
    if (element.getAttribute("src") === source) tell(error ? error.message || t("offline") : t("notShown"));
  });
  return element;
}

// A slider between two pictures: a range for the keyboard, and the pointer on the pictures themselves.
export function wireCompare(frame, after, line, range) {
  const show = () => {
    const share = Number(range.value);
    after.style.clipPath = `inset(0 0 0 ${share}%)`;
    line.style.left = `${share}%`;
  };
  const follow = (event) => {
    const box = frame.getBoundingClientRect();
    range.value = String(Math.max(0, Math.min(100, (100 * (event.clientX - box.left)) / box.width)));
    show();
  };
  frame.addEventListener("pointerdown", (event) => { frame.setPointerCapture(event.pointerId); follow(event); });
  frame.addEventListener("pointermove", (event) => { if (event.buttons) follow(event); });
  range.addEventListener("input", show);
  show();
}
