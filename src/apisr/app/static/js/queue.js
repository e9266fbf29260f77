// The queue and its results.

import * as api from "./api.js";
import { attempt, byId, keyed, make, say, wireCompare, wireMedia } from "./dom.js";
import { duration, forPage, language, number, size, t } from "./i18n.js";

const OPEN = ["waiting", "running", "paused"];
let shared;
// What each row shows now: only rows of which something changed are brought up to date.
const shown = new WeakMap();

export function wire(state) {
  shared = state;
  byId("pause-queue").addEventListener("click", () => attempt(api.post(`/api/queue/${state.paused ? "resume" : "pause"}`)));
  byId("clear-done").addEventListener("click", async () => {
    for (const job of state.jobs) if (["done", "cancelled"].includes(job.status)) await attempt(api.post(`/api/jobs/${job.id}/remove`));
  });
  const box = byId("notify");
  box.checked = localStorage.getItem("notify") === "yes" && window.Notification?.permission === "granted";
  box.addEventListener("change", async () => {
    if (box.checked && window.Notification && Notification.permission !== "granted") {
      box.checked = (await Notification.requestPermission()) === "granted";
    }
    localStorage.setItem("notify", box.checked ? "yes" : "no");
  });
  wireCompare(byId("details-compare"), byId("result-after"), byId("result-line"), byId("result-slider"));
  for (const id of ["result-before", "result-after", "result-video"]) wireMedia(byId(id), trouble);
  byId("details-close").addEventListener("click", () => byId("details").close());
  byId("details").addEventListener("close", () => { byId("result-video").pause(); byId("result-video").removeAttribute("src"); });
  byId("copy-command").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(byId("details-command").textContent);
      say(t("copied"));
    } catch { // not allowed, or not there (plain http from another machine): the keyboard copies what is selected
      getSelection().selectAllChildren(byId("details-command"));
    }
  });
}

export function notify(text) {
  if (byId("notify").checked && document.hidden && window.Notification?.permission === "granted") new Notification("apisr", { body: text });
}

export function show(state) {
  byId("pause-queue").textContent = t(state.paused ? "resumeQueue" : "pauseQueue");
  byId("queue-empty").hidden = state.jobs.length > 0;
  byId("clear-done").hidden = !state.jobs.some((job) => ["done", "cancelled"].includes(job.status));
  const open = state.jobs.filter((job) => OPEN.includes(job.status));
  const seconds = remaining(state);
  byId("queue-total").textContent = !open.length ? "" : seconds === null ? t("totalUnknown", { count: open.length }) : t("total", { count: open.length, time: duration(seconds) });
  places = movable(state.jobs);
  const focused = byId("jobs").contains(document.activeElement) ? document.activeElement : null;
  keyed(byId("jobs"), state.jobs, (job) => job.id, makeJob, updateJob);
  if (focused?.isConnected && document.activeElement !== focused) focused.focus(); // its row was moved
}

// Time for the whole queue: what is known of the running job, what was measured for the waiting ones, and for the
// others the speed of this queue with their kind of file; null where nothing is known of one.
function remaining(state) {
  const infos = new Map(state.items.map((item) => [item.id, item.info]));
  const units = (job) => { const info = infos.get(job.item); return info ? info.width * info.height * Math.max(1, info.frames ?? 1) : 0; };
  const speeds = { picture: [], video: [] };
  for (const job of state.jobs) if (job.status === "done" && job.seconds > 0 && units(job)) speeds[job.kind].push(units(job) / job.seconds);
  let sum = 0;
  for (const job of state.jobs) {
    if (!OPEN.includes(job.status)) continue;
    const known = speeds[job.kind];
    if (job.seconds_left !== null) sum += job.seconds_left;
    else if (job.expected_s !== null) sum += job.expected_s * (1 - (job.total ? job.done / job.total : 0));
    else if (known.length && units(job)) sum += units(job) / (known.reduce((a, b) => a + b) / known.length);
    else return null;
  }
  return sum;
}

function makeJob(job) {
  return make("li", { class: "job" },
    make("div", {}, make("p", { class: "name" }), make("p", { class: "soft status" })),
    make("div", { class: "buttons" }),
    make("progress", { class: "line", max: 1 }), make("p", { class: "line error" }));
}

// Jobs that a person can put into another order, by id: whether one of them stands before, and behind.
let places = new Map();

function movable(jobs) {
  const ids = jobs.filter((job) => ["waiting", "paused"].includes(job.status)).map((job) => job.id);
  return new Map(ids.map((id, at) => [id, { up: ids[at - 1], down: ids[at + 1] }]));
}

function updateJob(element, job) {
  const now = JSON.stringify([job, language, places.get(job.id)]);
  if (shown.get(element) === now) return;
  shown.set(element, now);
  element.querySelector(".name").textContent = `${job.name} → ${job.output}`;
  const status = element.querySelector(".status");
  const text = statusText(job);
  if (status.textContent !== text) status.textContent = text;
  status.className = `soft status state-${job.status}`;
  const bar = element.querySelector("progress");
  bar.hidden = !OPEN.includes(job.status) || (job.status === "waiting" && !job.done);
  bar.setAttribute("aria-label", job.name);
  if (job.total) bar.value = Math.min(1, job.done / job.total); else bar.removeAttribute("value");
  const error = element.querySelector(".error");
  error.textContent = forPage(job.message);
  error.hidden = !job.message;
  const wanted = buttonsOf(job);
  const holder = element.querySelector(".buttons");
  const mark = `${document.documentElement.lang} ${wanted.join()}`;
  if (holder.dataset.mark !== mark) {
    const focused = holder.contains(document.activeElement) ? document.activeElement.dataset.action : null;
    holder.replaceChildren(...wanted.map((action) => button(job, action)));
    holder.dataset.mark = mark;
    if (focused) (holder.querySelector(`[data-action="${focused}"]`) ?? holder.firstElementChild)?.focus();
  }
  for (const action of ["up", "down"]) {
    const element = holder.querySelector(`[data-action="${action}"]`);
    // A disabled button would lose the focus of a person who moves a job step by step.
    element?.setAttribute("aria-disabled", String(!places.get(job.id)?.[action]));
  }
}

function statusText(job) {
  const parts = [t(`state-${job.status}`)];
  if (job.status === "running") {
    if (job.total) parts.push(`${Math.floor((100 * job.done) / job.total)} %`);
    if (job.speed > 0 && job.unit === "frames") parts.push(t("speed-frames", { speed: number(job.speed) }));
    if (job.speed > 0 && job.unit === "pixels") parts.push(t("speed-pixels", { speed: number(job.speed / 1e6) }));
    if (job.seconds_left !== null) parts.push(t("left", { time: duration(job.seconds_left) }));
  }
  if (job.status === "waiting" && job.expected_s !== null) parts.push(t("estimate", { time: duration(job.expected_s) }), t("estimateSize", { size: size(job.expected_bytes) }));
  if (job.status === "done" && job.seconds) parts.push(duration(job.seconds));
  return parts.join(" · ");
}

function buttonsOf(job) {
  return {
    waiting: ["up", "down", "pause", "cancel", "details"],
    running: ["pause", "cancel", "details"],
    paused: ["resume", "cancel", "details"],
    done: ["details", "download", ...(shared.can_open ? ["folder"] : []), "remove"],
    failed: ["details", "retry", "remove"],
    cancelled: ["retry", "remove"],
  }[job.status];
}

function button(job, action) {
  const label = `${t(action)}: ${job.name}`;
  if (action === "download") {
    const link = make("a", { class: "button small", href: `/api/jobs/${job.id}/output`, download: "" }, t(action));
    link.dataset.action = action;
    link.setAttribute("aria-label", label);
    return link;
  }
  const element = make("button", { type: "button", class: "small", onclick: () => act(job.id, action) }, t(action));
  element.dataset.action = action;
  element.setAttribute("aria-label", label);
  return element;
}

function act(id, action) {
  if (action === "details") return details(id);
  if (action === "up" || action === "down") {
    const neighbour = places.get(id)?.[action];
    if (!neighbour) return undefined;
    const ids = shared.jobs.map((job) => job.id);
    const [at, other] = [ids.indexOf(id), ids.indexOf(neighbour)];
    [ids[at], ids[other]] = [ids[other], ids[at]];
    return attempt(api.post("/api/jobs/order", { ids }));
  }
  return attempt(api.post(`/api/jobs/${id}/${action}`));
}

// In the dialog, which covers the rest of the page.
function trouble(message) {
  byId("details-trouble").textContent = message;
  byId("details-trouble").hidden = !message;
}

export async function details(id) {
  const job = shared.jobs.find((one) => one.id === id);
  if (!job) return;
  const more = await attempt(api.get(`/api/jobs/${id}`));
  if (!more) return;
  trouble("");
  byId("details-title").textContent = job.name;
  byId("details-command").textContent = more.command;
  byId("details-log").textContent = more.log.map(forPage).join("\n");
  const item = shared.items.find((one) => one.id === job.item);
  const ready = job.status === "done" && job.ready;
  byId("details-compare").hidden = byId("result-slider-label").hidden = !(ready && item);
  if (ready && item) {
    const time = item.info?.duration_s ? item.info.duration_s / 3 : 0;
    byId("result-before").src = `/api/items/${item.id}/frame?time=${time}`;
    byId("result-after").src = `/api/jobs/${id}/frame?time=${time}`;
    byId("result-before").alt = t("before");
    byId("result-after").alt = t("after");
  }
  const video = byId("result-video");
  video.hidden = !(ready && job.kind === "video" && /\.(mp4|webm|mov)$/i.test(job.output));
  if (!video.hidden) video.src = `/api/jobs/${id}/output?inline=1`;
  byId("details").showModal();
}
