// Adding files, and the cards that stand for them.

import * as api from "./api.js";
import * as estimates from "./estimates.js";
import { attempt, byId, keyed, make, say } from "./dom.js";
import { clock, forPage, language, size, t } from "./i18n.js";
import * as memory from "./memory.js";
import { refresh } from "./main.js";

// So many of the files that were left out are named, as by the server.
const NAMES_SHOWN = 6;
let shared;
// What each card shows now: only cards of which something changed are brought up to date.
const shown = new WeakMap();

export function wire(state) {
  shared = state;
  const drop = byId("drop");
  const over = (on) => drop.classList.toggle("over", on);
  for (const name of ["dragenter", "dragover"]) document.addEventListener(name, (event) => { event.preventDefault(); over(true); });
  for (const name of ["dragleave", "drop"]) document.addEventListener(name, (event) => { event.preventDefault(); if (name === "drop" || !event.relatedTarget) over(false); });
  document.addEventListener("drop", async (event) => uploadAll((await attempt(droppedFiles(event.dataTransfer))) ?? []));
  byId("pick-files").addEventListener("change", (event) => { uploadAll([...event.target.files]); event.target.value = ""; });
  byId("pick-folder").addEventListener("change", (event) => { uploadAll([...event.target.files]); event.target.value = ""; });
  byId("select-all").addEventListener("change", (event) => {
    state.selected = new Set(event.target.checked ? state.items.map((item) => item.id) : []);
    refresh();
  });
  byId("remove-selected").addEventListener("click", async () => {
    for (const id of [...state.selected]) await attempt(api.send("DELETE", `/api/items/${id}`));
  });
  byId("open-browse").addEventListener("click", () => browse(""));
  byId("browse-cancel").addEventListener("click", () => byId("browse").close());
  byId("browse-add").addEventListener("click", addPicked);
  byId("browse-all").addEventListener("change", (event) => {
    const boxes = [...byId("browse-list").querySelectorAll("input")];
    for (const box of boxes) box.checked = event.target.checked;
    picked = new Set(event.target.checked ? boxes.map((box) => box.value) : []);
    showPicked();
  });
}

export function show(state) {
  byId("open-browse").hidden = !state.folder;
  byId("selection").hidden = state.items.length === 0;
  byId("select-all").checked = state.items.length > 0 && state.selected.size === state.items.length;
  byId("selected-count").textContent = t("selected", { count: state.items.filter((item) => state.selected.has(item.id) && !item.error).length });
  byId("remove-selected").disabled = state.selected.size === 0;
  if (document.documentElement.dataset.ready) memory.write("selected", [...state.selected]);
  keyed(byId("cards"), state.items, (item) => item.id, makeCard, updateCard, estimates.forget);
  estimates.soon();
}

function makeCard(item) {
  const image = make("img", { alt: "", loading: "lazy", decoding: "async" });
  const picture = make("button", { class: "picture", type: "button", onclick: () => { shared.current = item.id; refresh(); byId("look").scrollIntoView({ block: "nearest" }); } }, image);
  const box = make("input", { type: "checkbox", onchange: (event) => {
    if (event.target.checked) shared.selected.add(item.id); else shared.selected.delete(item.id);
    refresh();
  } });
  const lines = ["soft facts", "estimate", "soft kept", "error"].map((name) => make("p", { class: name }));
  const card = make("li", { class: "card" }, picture, make("div", { class: "body" }, make("div", { class: "title" }, box, make("p", { class: "name" }, item.name)), ...lines));
  card.dataset.key = item.id;
  estimates.watch(card);
  return card;
}

function updateCard(card, item) {
  const now = [item, estimates.of(item), shared.current === item.id, shared.selected.has(item.id), language];
  if (shown.get(card)?.every((value, place) => value === now[place])) return;
  shown.set(card, now);
  const image = card.querySelector("img");
  if (item.info && !image.src) image.src = `/api/items/${item.id}/thumbnail`;
  card.classList.toggle("current", shared.current === item.id);
  card.querySelector(".picture").setAttribute("aria-label", t("lookAt", { name: item.name }));
  const box = card.querySelector("input");
  box.checked = shared.selected.has(item.id);
  box.setAttribute("aria-label", t("select", { name: item.name }));
  put(card, ".facts", facts(item));
  put(card, ".estimate", estimates.line(item));
  put(card, ".kept", kept(item));
  const error = card.querySelector(".error");
  error.textContent = forPage(item.error ?? "");
  error.hidden = !item.error;
}

// Only what changed is written: five hundred cards are brought up to date at once.
function put(card, name, text) {
  const line = card.querySelector(name);
  if (line.textContent !== text) line.textContent = text;
  line.hidden = !text;
}

function kept(item) {
  const streams = estimates.of(item)?.streams ?? [];
  return streams.length > 1 ? t("kept", { streams: streams.slice(1).join(", ") }) : "";
}

export function facts(item) {
  if (!item.info) return t(item.kind);
  const { width, height, bytes, frames, duration_s: seconds, streams } = item.info;
  const parts = [t(item.kind), `${width}×${height}`];
  if (seconds) parts.push(clock(seconds).slice(0, 8));
  else if (frames > 1) parts.push(t("frames", { count: frames }));
  parts.push(size(bytes));
  if (streams?.length && !estimates.of(item)?.streams) parts.push(streams.join(", "));
  return parts.join(" · ");
}

async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  const read = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));
  const walk = async (entry) => {
    if (entry.isFile) found.push(await read(entry));
    else {
      const reader = entry.createReader();
      for (;;) {
        const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!part.length) break;
        for (const child of part) await walk(child);
      }
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}

async function uploadAll(list) {
  const wanted = list.filter((file) => !file.name.startsWith("."));
  const leftOut = [];
  for (const file of wanted) {
    const bar = make("progress", { max: 1, value: 0 });
    bar.setAttribute("aria-label", file.name);
    const row = make("li", {}, make("span", { class: "name" }, file.name), bar);
    byId("uploads").append(row);
    try {
      const item = await api.upload(file, (share) => { bar.value = share; });
      if (!shared.items.some((other) => other.id === item.id)) shared.items = [...shared.items, item];
      shared.selected.add(item.id);
      shared.current ??= item.id;
      row.remove();
      say(t("uploaded", { name: item.name }));
      refresh();
    } catch (error) {
      if (error.code === "not-media" && wanted.length > 1) { leftOut.push(file.name); row.remove(); continue; }
      bar.replaceWith(make("span", { class: "error" }, error.message || t("offline")), make("button", { type: "button", class: "small", onclick: () => row.remove() }, t("close")));
    }
  }
  if (leftOut.length) sayLeftOut({ "other-kind": { count: leftOut.length, names: leftOut.slice(0, NAMES_SHOWN) } });
}

// Files that were chosen and do not appear: a line for each reason below the buttons, until it is closed.
function sayLeftOut(groups, before = "") {
  const lines = Object.entries(groups).map(([reason, { count, names }]) => {
    const listed = names.join(", ");
    const some = count > names.length ? t("andMore", { names: listed, count: count - names.length }) : listed;
    return t("leftOut", { count, reason: t(`leftOut-${reason}`), names: some });
  });
  for (const line of lines) {
    const row = make("li", {}, make("span", { class: "line" }, line), make("button", { type: "button", class: "small", onclick: () => row.remove() }, t("close")));
    byId("uploads").append(row);
  }
  const all = before ? [before, ...lines] : lines;
  if (all.length) say(all.join(" "));
}

let picked = new Set();
let asked = 0;

function pick(box) {
  if (box.checked) picked.add(box.value); else picked.delete(box.value);
  showPicked();
}

function showPicked() {
  const boxes = [...byId("browse-list").querySelectorAll("input")];
  byId("browse-all").checked = boxes.length > 0 && picked.size === boxes.length;
  byId("browse-all").indeterminate = picked.size > 0 && picked.size < boxes.length;
  byId("browse-all").disabled = boxes.length === 0;
  byId("browse-add").disabled = picked.size === 0;
}

// The box picks; the name of a folder opens it, that of a file picks it, too.
function entryRow(entry) {
  const box = make("input", { type: "checkbox", value: entry.id, onchange: (event) => pick(event.target) });
  if (entry.kind !== "folder") {
    const facts = make("span", { class: "soft" }, entry.bytes === undefined ? "" : size(entry.bytes));
    return make("li", {}, make("label", {}, box, make("span", { class: "entry" }, entry.name), facts));
  }
  const label = make("label", { class: "tick" }, box, make("span", { class: "visually-hidden" }, t("select", { name: entry.name })));
  const open = make("button", { type: "button", class: "folder", onclick: () => browse(entry.id) }, `📁 ${entry.name}`);
  open.setAttribute("aria-label", `${t("open")}: ${entry.name}`);
  return make("li", {}, label, open);
}

async function browse(id) {
  picked = new Set();
  const turn = ++asked;
  const listing = await attempt(api.get(`/api/browse?id=${encodeURIComponent(id)}`));
  if (turn !== asked) return; // a later folder was asked for: its list alone is shown
  if (!listing) { byId("browse").close(); return; }
  byId("browse-title").textContent = listing.name;
  const rows = listing.entries.map(entryRow);
  if (listing.parent !== null) rows.unshift(make("li", {}, make("button", { type: "button", class: "folder", onclick: () => browse(listing.parent) }, `⬑ ${t("up-folder")}`)));
  byId("browse-list").replaceChildren(...rows);
  showPicked();
  if (!byId("browse").open) byId("browse").showModal();
}

async function addPicked() {
  byId("browse").close();
  const added = await attempt(api.post("/api/add", { ids: [...picked] }));
  if (!added) return;
  const line = addedLine(added);
  byId("added").textContent = line;
  sayLeftOut(added.left_out, line);
  const now = await attempt(api.get("/api/state"));
  // Only what is not known yet: what the server said meanwhile of the others is newer than this answer.
  const known = new Set(shared.items.map((item) => item.id));
  shared.items = [...shared.items, ...(now?.items ?? []).filter((item) => !known.has(item.id))];
  for (const id of added.items) if (shared.items.some((item) => item.id === id)) shared.selected.add(id);
  shared.current ??= added.items[0] ?? null;
  refresh();
}

function addedLine({ added, listed }) {
  const parts = [t("added", { count: added })];
  if (listed) parts.push(t("listed", { count: listed }));
  return parts.join(" ");
}
