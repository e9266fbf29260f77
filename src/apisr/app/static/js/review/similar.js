// Which pictures look alike: those whose hashes of 64 bits differ in few of them.

const MOST_BITS = 14;
const MOST_SHOWN = 6;

function bitsOf(value) {
  let count = 0;
  for (let rest = value >>> 0; rest; rest = (rest & (rest - 1)) >>> 0) count += 1;
  return count;
}

export class Similar {
  constructor(rows) {
    this.rows = rows;
    this.high = Uint32Array.from(rows, (row) => parseInt(row.hash.slice(0, 8), 16));
    this.low = Uint32Array.from(rows, (row) => parseInt(row.hash.slice(8, 16), 16));
    this.places = new Map(rows.map((row, place) => [row, place]));
  }

  of(row) {
    const at = this.places.get(row);
    const found = [];
    for (let place = 0; place < this.rows.length; place++) {
      if (place === at) continue;
      const bits = bitsOf(this.high[place] ^ this.high[at]) + bitsOf(this.low[place] ^ this.low[at]);
      if (bits <= MOST_BITS || this.rows[place].id === row.duplicate) found.push({ bits, row: this.rows[place] });
    }
    return found.sort((a, b) => a.bits - b.bits).slice(0, MOST_SHOWN);
  }
}
