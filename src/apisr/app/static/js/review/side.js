// What is known of the chosen picture, and the pictures that look like it.

import { byId, make } from "../dom.js";
import { number, t } from "../i18n.js";
import { address } from "./sheet.js";

let shown = null;

function image(row, label, onclick) {
  return make("button", { class: "image", type: "button", onclick, "aria-label": label }, make("img", { src: address(row, "small"), alt: "" }));
}

export function show(row, near, openZoom) {
  shown = row;
  byId("side").replaceChildren();
  if (!row) return;
  const facts = make("dl");
  const fact = (name, value) => {
    if (value !== null && value !== undefined && value !== "") facts.append(make("dt", {}, t(name)), make("dd", { "data-fact": name }, String(value)));
  };
  fact("decision", decisionOf(row));
  fact("flags", row.flags.join(", "));
  fact("score", number(row.score, 3));
  fact("nudity", row.nudity === null ? null : number(row.nudity, 2));
  fact("drawing", row.anime === null ? null : number(row.anime, 2));
  fact("size", `${row.width}×${row.height}`);
  fact("nativeLines", row.native);
  fact("video", row.source);
  fact("time", `${row.time.toFixed(2)} s, ${row.kind}`);
  byId("side").append(image(row, `${t("zoom")}: ${row.id}`, () => openZoom([row])), facts);
  if (near.length) byId("side").append(make("h3", {}, t("similarPictures")));
  for (const { bits, row: other } of near) {
    const line = t("similarBy", { bits, decision: t(`decision-${other.decision}`), seconds: other.time.toFixed(1) });
    byId("side").append(make("div", {}, image(other, `${t("compareSimilar")}: ${other.id}`, () => openZoom([row, other])), make("p", { class: "soft" }, line)));
  }
}

export function dress(row) {
  const place = byId("side").querySelector('[data-fact="decision"]');
  if (place && row === shown) place.textContent = decisionOf(row);
}

const decisionOf = (row) => `${t(`decision-${row.decision}`)} (${t(row.person ? "byPerson" : "byMachine")})`;
