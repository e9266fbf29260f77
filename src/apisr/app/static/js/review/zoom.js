// One picture as large as the window, or two side by side. A swipe goes on to the next.

import { byId, make } from "../dom.js";

const SWIPE = 60;
let calls = null;

export const isOpen = () => byId("zoom").open;
export const close = () => byId("zoom").close();

export function open(rows) {
  const pictures = byId("zoom-pictures");
  pictures.classList.toggle("two", rows.length > 1);
  pictures.replaceChildren(...rows.map((row) => make("img", { src: calls.address(row), alt: row.id, draggable: false })));
  if (!isOpen()) byId("zoom").showModal();
}

export function togglePixels() {
  const on = byId("zoom-pictures").classList.toggle("pixels");
  byId("zoom").querySelector('[data-action="pixels"]').setAttribute("aria-pressed", String(on));
}

export function wire(given) {
  calls = given;
  const pictures = byId("zoom-pictures");
  let start = null;
  pictures.addEventListener("pointerdown", (event) => { start = event.isPrimary ? { x: event.clientX, y: event.clientY } : null; });
  pictures.addEventListener("pointercancel", () => { start = null; });
  pictures.addEventListener("pointerup", (event) => {
    if (!start || pictures.classList.contains("pixels")) return;
    const [x, y] = [event.clientX - start.x, event.clientY - start.y];
    start = null;
    if (Math.abs(x) > SWIPE && Math.abs(x) > 2 * Math.abs(y)) calls.onSwipe(x < 0 ? 1 : -1);
  });
}
