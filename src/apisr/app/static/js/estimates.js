// Time and size of results, measured by the server for the files in view, one after the other.

import * as api from "./api.js";
import { duration, size, t } from "./i18n.js";
import { refresh } from "./main.js";
import * as settings from "./settings.js";

const KEPT = 5000;
const known = new Map();
const visible = new Set();
let shared;
let busy = false;
let timer = 0;

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) visible.add(entry.target.dataset.key); else visible.delete(entry.target.dataset.key);
  }
  soon();
});

export const wire = (state) => { shared = state; };
export const watch = (card) => watcher.observe(card);
export function forget(card) { watcher.unobserve(card); visible.delete(card.dataset.key); }

// The settings are read once for all cards.
let chosen = "";
export function renew() { chosen = JSON.stringify(settings.current()); }
const keyOf = (item) => `${item.id} ${chosen}`;
export const of = (item) => known.get(keyOf(item));

// Settings change often while a person looks for the right ones: work begins a moment after the first change.
export function soon() {
  timer ||= setTimeout(() => { timer = 0; work(); }, 400);
}

function next() {
  const ready = (item) => item.info && !item.error && !known.has(keyOf(item));
  const current = shared.items.find((item) => item.id === shared.current);
  if (current && ready(current)) return current;
  return shared.items.find((item) => visible.has(item.id) && ready(item)) ?? null;
}

async function work() {
  if (busy) return;
  busy = true;
  renew();
  for (let item = next(); item; item = next()) {
    const key = keyOf(item);
    const wanted = JSON.parse(chosen);
    try {
      known.set(key, await api.post(`/api/items/${item.id}/plan`, { settings: wanted }));
    } catch (error) {
      if (!error.code || error.code === "offline") break; // the server does not answer: asked again when it does
      known.set(key, { error: error.message });
    }
    if (known.size > KEPT) known.delete(known.keys().next().value);
    refresh();
  }
  busy = false;
}

// What a card says: "1280×720 · about 2 min · about 40 MB".
export function line(item) {
  const plan = of(item);
  if (!plan) return item.info && !item.error ? t("measuring") : "";
  if (plan.error) return plan.error;
  const parts = [`→ ${plan.size}`];
  if (plan.seconds !== null) parts.push(t("estimate", { time: duration(plan.seconds) }), t("estimateSize", { size: size(plan.bytes) }));
  return parts.join(" · ");
}

// Time and size of several files together; null until all are known.
export function total(items) {
  const plans = items.map(of);
  if (!plans.length || plans.some((plan) => !plan || plan.error || plan.seconds === null)) return null;
  return { seconds: plans.reduce((sum, plan) => sum + plan.seconds, 0), bytes: plans.reduce((sum, plan) => sum + plan.bytes, 0) };
}
