// A sheet of any number of pictures: only those in view, and one screen around them, exist in the page.

import { make } from "../dom.js";

const TILE = 220;
const CAPTION = 28;

export class Grid {
  constructor(scroller, room, calls) {
    Object.assign(this, { scroller, room, calls, rows: [], here: 0, columns: 1, cell: { w: TILE, h: 160 }, tiles: new Map() });
    let planned = false;
    scroller.addEventListener("scroll", () => {
      if (planned) return;
      planned = true;
      requestAnimationFrame(() => { planned = false; this.paint(); });
    });
    new ResizeObserver(() => {
      if (scroller.clientWidth === this.width) return this.paint();
      this.layout();
      return this.go(this.here);
    }).observe(scroller);
  }

  get page() { return Math.max(1, Math.floor(this.scroller.clientHeight / this.cell.h)) * this.columns; }

  show(rows) {
    this.rows = rows;
    this.room.hidden = !rows.length;
    this.layout();
  }

  layout() {
    const width = this.scroller.clientWidth;
    this.width = width;
    this.columns = Math.max(width < 2 * TILE ? 2 : 1, Math.floor(width / TILE));
    this.cell = { w: width / this.columns, h: ((width / this.columns) * 9) / 16 + CAPTION };
    this.room.style.height = `${Math.ceil(this.rows.length / this.columns) * this.cell.h}px`;
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
    this.paint();
  }

  paint() {
    const { scrollTop: top, clientHeight: height } = this.scroller;
    const first = Math.max(0, Math.floor((top - height) / this.cell.h)) * this.columns;
    const last = Math.min(this.rows.length, Math.ceil((top + 2 * height) / this.cell.h) * this.columns);
    for (const [place, tile] of this.tiles) if (place < first || place >= last) { tile.remove(); this.tiles.delete(place); }
    for (let place = first; place < last; place++) if (!this.tiles.has(place)) this.add(place);
  }

  add(place) {
    const row = this.rows[place];
    const tile = make("div", { class: "tile", role: "option", id: `tile-${place}`, onclick: () => this.calls.onGo(place), ondblclick: () => this.calls.onOpen() },
      make("div", {}, make("img", { src: this.calls.address(row, "small"), alt: "", decoding: "async", loading: "lazy" }),
        make("div", { class: "caption" }, make("span", { class: "score" }), make("span", { class: "flags" }), make("span", { class: "state" }))));
    Object.assign(tile.style, { left: `${(place % this.columns) * this.cell.w}px`, top: `${Math.floor(place / this.columns) * this.cell.h}px`, width: `${this.cell.w}px`, height: `${this.cell.h}px` });
    tile.setAttribute("aria-setsize", this.rows.length);
    tile.setAttribute("aria-posinset", place + 1);
    this.room.append(tile);
    this.tiles.set(place, tile);
    this.dressAt(place);
  }

  dress(row) {
    for (const place of this.tiles.keys()) if (this.rows[place] === row) this.dressAt(place);
  }

  dressAt(place) {
    const tile = this.tiles.get(place);
    const row = this.rows[place];
    if (!tile || !row) return;
    const [state, flags, score] = this.calls.label(row);
    tile.className = `tile is-${row.decision}`;
    tile.dataset.id = row.id;
    tile.setAttribute("aria-selected", String(place === this.here));
    tile.querySelector("img").alt = row.id;
    for (const [name, text] of [["state", state], ["flags", flags], ["score", score]]) tile.querySelector(`.${name}`).textContent = text;
  }

  go(place) {
    const before = this.here;
    this.here = place;
    const top = Math.floor(place / this.columns) * this.cell.h;
    const { scrollTop, clientHeight } = this.scroller;
    if (top < scrollTop) this.scroller.scrollTop = top;
    else if (top + this.cell.h > scrollTop + clientHeight) this.scroller.scrollTop = top + this.cell.h - clientHeight;
    this.paint();
    this.dressAt(before);
    this.dressAt(place);
    if (this.rows.length) this.room.setAttribute("aria-activedescendant", `tile-${place}`);
    else this.room.removeAttribute("aria-activedescendant");
  }
}
