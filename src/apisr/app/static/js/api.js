// Requests to the server, and its stream of events.

import { forPage } from "./i18n.js";

export class ApiError extends Error {
  constructor(message, code) {
    super(forPage(message));
    this.code = code;
  }
}

// Where no answer comes, the error has the code "offline" and no message: each page has its own words for that.
async function ask(path, options) {
  let response;
  let values = {};
  try {
    response = await fetch(path, options);
    if (response.headers.get("content-type")?.includes("json")) values = await response.json();
  } catch {
    throw new ApiError("", "offline");
  }
  if (!response.ok) throw new ApiError(values.error ?? response.statusText, values.code);
  return values;
}

export const get = (path) => ask(path);

// Why a picture or a clip did not come, as an error; `null` where it does come. Nothing but the head is fetched.
export async function reason(path) {
  const stop = new AbortController();
  try {
    await ask(path, { signal: stop.signal });
    return null;
  } catch (error) {
    return error;
  } finally {
    stop.abort();
  }
}

export function send(method, path, values) {
  const headers = { "Content-Type": "application/json" };
  return ask(path, { method, headers, body: JSON.stringify(values ?? {}) });
}

export const post = (path, values) => send("POST", path, values);

// XMLHttpRequest, because fetch does not say how much of a body was sent.
export function upload(file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/upload?name=${encodeURIComponent(file.name)}`);
    request.upload.onprogress = (event) => onProgress(event.loaded / Math.max(1, event.total));
    request.onload = () => {
      let values = {};
      try { values = JSON.parse(request.responseText); } catch { /* not JSON: the status says enough */ }
      if (request.status < 300) resolve(values);
      else reject(new ApiError(values.error ?? request.statusText, values.code));
    };
    request.onerror = () => reject(new ApiError("", "offline"));
    request.send(file);
  });
}

// The browser connects again by itself; `onState` hears whether the server is there.
export function listen(handlers, onState) {
  const source = new EventSource("/api/events");
  for (const [name, handler] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => handler(JSON.parse(event.data)));
  }
  source.onopen = () => onState(true);
  source.onerror = () => onState(false);
  return source;
}
