// The sheet of a dataset: which pictures are shown in which order, which one is chosen, and what is decided.

import * as api from "../api.js";
import { byId, make, say } from "../dom.js";
import { number, t } from "../i18n.js";
import { Grid } from "./grid.js";
import { problem } from "./page.js";
import * as side from "./side.js";
import { Similar } from "./similar.js";
import * as zoom from "./zoom.js";

const DOUBTS = ["nudity", "live_action", "credits", "subtitle", "combed", "bars", "duplicate"];
const DECISIONS = ["accept", "review", "reject", "reserve"];
let dataset = "";
let rows = [];
let shown = [];
let here = 0;
let grid = null;
let similar = null;
let queue = Promise.resolve();
const undone = [];

export const address = (row, size) => `/api/datasets/${dataset}/pictures/${encodeURIComponent(row.id)}${size ? `?size=${size}` : ""}`;
const chosen = () => shown[here];

export async function open(id) {
  dataset = encodeURIComponent(id);
  const listing = await api.get(`/api/datasets/${dataset}`);
  rows = listing.rows;
  similar = new Similar(rows);
  byId("review").hidden = false;
  byId("review-title").textContent = listing.name;
  document.title = `${listing.name} - apisr`;
  byId("open-report").hidden = !listing.report;
  byId("open-report").href = `/review?report=${listing.report}&from=${dataset}`;
  grid = new Grid(byId("grid"), byId("room"), { address, label, onGo: go, onOpen: () => act("zoom") });
  relabel();
  wire();
  return listing;
}

export function relabel() {
  if (!grid) return;
  const flags = [...new Set(rows.flatMap((row) => row.flags))].sort();
  const kept = byId("show").value || "all";
  byId("show").replaceChildren(...["all", ...DECISIONS].map((value) => make("option", { value }, t(`decision-${value}`))),
    ...flags.map((flag) => make("option", { value: `flag:${flag}` }, t("flag", { name: flag }))));
  byId("show").value = kept;
  counts();
  arrange(true);
}

function label(row) {
  return [t(`decision-${row.decision}`) + (row.person ? " *" : ""), row.flags.join(" "), number(row.score, 3)];
}

function rank(row) {
  if (row.decision !== "review") return { accept: 20, reserve: 30, reject: 40 }[row.decision] ?? 50;
  const place = DOUBTS.findIndex((flag) => row.flags.includes(flag));
  return place < 0 ? DOUBTS.length : place;
}

function arrange(keep) {
  const current = keep ? chosen() : null;
  const filter = byId("show").value;
  const byTime = (a, b) => (a.source < b.source ? -1 : a.source > b.source ? 1 : a.time - b.time);
  const orders = { doubt: (a, b) => rank(a) - rank(b) || b.score - a.score || byTime(a, b), high: (a, b) => b.score - a.score, low: (a, b) => a.score - b.score, time: byTime };
  const wanted = (row) => filter === "all" || (filter.startsWith("flag:") ? row.flags.includes(filter.slice(5)) : row.decision === filter);
  shown = rows.filter(wanted).sort(orders[byId("sort").value]);
  const found = current ? shown.indexOf(current) : -1;
  byId("review-empty").hidden = shown.length > 0;
  grid.show(shown);
  go(found >= 0 ? found : 0);
}

function go(place) {
  here = Math.max(0, Math.min(place, shown.length - 1));
  grid.go(here);
  side.show(chosen(), chosen() ? similar.of(chosen()) : [], (list) => zoom.open(list));
  if (zoom.isOpen() && chosen()) zoom.open([chosen()]);
}

function counts() {
  const words = { accept: "accepted", review: "doubtful", reject: "rejected", reserve: "soft" };
  byId("counts").replaceChildren(...DECISIONS.map((name) => [name, rows.filter((row) => row.decision === name).length]).filter(([, count]) => count)
    .map(([name, count]) => make("span", { class: words[name] }, `${t(`decision-${name}`)} ${number(count, 9)}`)));
}

function decide(decision) {
  const row = chosen();
  if (!row) return;
  undone.push([row, row.decision]);
  apply(row, decision);
  say(`${t(`decision-${decision}`)}: ${row.id}`);
  go(here + 1);
}

function undo() {
  const last = undone.pop();
  if (!last) return;
  apply(...last);
  const found = shown.indexOf(last[0]);
  if (found >= 0) go(found);
}

// Shown at once, and taken back if the server could not write it.
function apply(row, decision) {
  const before = [row.decision, row.person];
  const put = (values) => { [row.decision, row.person] = values; counts(); grid.dress(row); side.dress(row); };
  const saving = (step) => { document.body.dataset.saving = String(Number(document.body.dataset.saving ?? 0) + step); };
  put([decision, true]);
  saving(1);
  queue = queue.then(() => api.post(`/api/datasets/${dataset}/decisions`, { ids: [row.id], decision })).then(() => problem(""), (error) => {
    put(before);
    problem(t("notSaved", { reason: error.message || t("offlineReview") }));
  }).finally(() => saving(-1));
}

// What another page decided.
function taken(event) {
  if (encodeURIComponent(event.dataset) !== dataset) return;
  const ids = new Set(event.ids);
  for (const row of rows) if (ids.has(row.id)) { row.decision = event.decision; row.person = true; grid.dress(row); side.dress(row); }
  counts();
}

function act(action) {
  const actions = {
    accept: () => decide("accept"), reject: () => decide("reject"), undo,
    zoom: () => { if (zoom.isOpen()) zoom.close(); else if (chosen()) zoom.open([chosen()]); },
    compare: () => { const near = chosen() && similar.of(chosen())[0]; if (near) zoom.open([chosen(), near.row]); else say(t("noSimilar")); },
    previous: () => go(here - 1), next: () => go(here + 1), up: () => go(here - grid.columns), down: () => go(here + grid.columns),
    pageUp: () => go(here - grid.page), pageDown: () => go(here + grid.page), first: () => go(0), last: () => go(shown.length - 1),
    pixels: zoom.togglePixels, close: zoom.close, side: () => byId("side").classList.toggle("open"),
  };
  actions[action]?.();
}

const KEYS = {
  a: "accept", r: "reject", x: "reject", u: "undo", z: "zoom", c: "compare", f: "pixels", arrowleft: "previous", arrowright: "next",
  arrowup: "up", arrowdown: "down", pageup: "pageUp", pagedown: "pageDown", home: "first", end: "last",
};

function wire() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || ["SELECT", "INPUT"].includes(event.target.tagName)) return;
    const action = KEYS[event.key.toLowerCase()];
    if (!action || (action === "pixels" && !zoom.isOpen())) return;
    event.preventDefault();
    act(action);
  });
  for (const button of document.querySelectorAll("[data-action]")) button.addEventListener("click", () => act(button.dataset.action));
  zoom.wire({ address, onSwipe: (step) => go(here + step) });
  byId("show").addEventListener("change", () => arrange(false));
  byId("sort").addEventListener("change", () => arrange(true));
  byId("room").focus({ preventScroll: true });
  api.listen({ decided: taken }, (there) => { byId("offline").hidden = there; });
}
