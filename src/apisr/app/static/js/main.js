// The page: one state, changed by answers and events of the server, shown by the modules beside this one.

import * as api from "./api.js";
import { attempt, byId, complain, say } from "./dom.js";
import { wireHeader } from "./header.js";
import { forPage, t } from "./i18n.js";
import * as estimates from "./estimates.js";
import * as files from "./files.js";
import * as memory from "./memory.js";
import * as look from "./look.js";
import * as queue from "./queue.js";
import * as settings from "./settings.js";

export const state = { items: [], jobs: [], paused: false, models: [], presets: {}, folder: null, can_open: false, selected: new Set(), current: null };

// Work on the page is collected and done once before the next frame, so that 500 events cost one update; news of jobs
// concern the queue alone.
const planned = new Set();
export function refresh(...parts) {
  if (!planned.size) requestAnimationFrame(show);
  for (const part of parts.length ? parts : [files, settings, look, queue]) planned.add(part);
}

// Files that were selected at the last visit; those that are gone are left out with the first answer of the server.
function selectedLast() {
  const ids = memory.read("selected");
  return new Set(Array.isArray(ids) ? ids : []);
}

function show() {
  const parts = [files, settings, look, queue].filter((part) => planned.has(part));
  planned.clear();
  estimates.renew();
  for (const part of parts) part.show(state);
}

function take(values, ...parts) {
  Object.assign(state, values);
  const known = new Set(state.items.map((item) => item.id));
  for (const id of [...state.selected]) if (!known.has(id)) state.selected.delete(id);
  if (state.current && !known.has(state.current)) state.current = null;
  refresh(...parts);
}

const handlers = {
  items: ({ items }) => take({ items }),
  item: (item) => take({ items: state.items.some((other) => other.id === item.id) ? state.items.map((other) => (other.id === item.id ? item : other)) : [...state.items, item] }),
  jobs: ({ jobs, paused }) => take({ jobs, paused }, queue),
  job: (job) => take({ jobs: state.jobs.map((other) => (other.id === job.id ? job : other)) }, queue),
  trouble: ({ message }) => complain(forPage(message)),
  ended: ({ name, status }) => {
    if (status !== "done" && status !== "failed") return;
    const text = t(status === "done" ? "finished" : "failedNotice", { name });
    say(text);
    queue.notify(text);
  },
};

async function start() {
  state.selected = selectedLast();
  await wireHeader(() => refresh(), () => complain(t("offline")));
  for (const part of [estimates, files, settings, look, queue]) part.wire(state);
  let missed = false; // something that the server said
  const load = async () => {
    missed = false;
    const now = await attempt(api.get("/api/state"));
    if (!now) { missed = true; return; }
    take(now);
    settings.restore(state);
  };
  api.listen(handlers, (there) => {
    byId("offline").hidden = there;
    if (!there) missed = true; else if (missed) load();
  });
  await load();
  document.documentElement.dataset.ready = "yes";
  refresh();
}

start();
