// What the browser keeps from one visit to the next. What cannot be read, or not be kept, is passed over quietly.

export function read(name) {
  try {
    return JSON.parse(localStorage.getItem(name));
  } catch {
    return null;
  }
}

const written = new Map();

export function write(name, value) {
  const text = JSON.stringify(value);
  if (written.get(name) === text) return;
  written.set(name, text);
  try { localStorage.setItem(name, text); } catch { /* the next visit begins with the defaults */ }
}
