// @ts-check
// An upload, with how far it is: `fetch` tells nothing of that, XMLHttpRequest does.

import { PAGE_HEADERS, Problem, parse, session, unreachable, withQuery } from "./api.js";

/** @import { Batch } from "./types.js" */
/** @typedef {{ sent: number, total: number, perSecond: number, secondsLeft: number | null }} Progress */

/** The speed is that of the last seconds, so that it follows a network that changes. */
const SPEED_OVER_MS = 4_000;

/**
 * @param {string} path
 * @param {File} file
 * @param {{ isGzip: boolean, key: string, allowDuplicate?: boolean, progress: (progress: Progress) => void, signal: AbortSignal }} options
 * @returns {Promise<Batch>}
 */
export function send(path, file, { isGzip, key, allowDuplicate, progress, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const samples = [{ at: performance.now(), sent: 0 }];
    request.open("POST", withQuery(path, { allow_duplicate: allowDuplicate ? "true" : undefined }));
    // As a form, so that the file's name comes along. The key makes a second try after a broken connection harmless.
    const headers = { ...PAGE_HEADERS, "Idempotency-Key": key, ...(isGzip ? { "Content-Type": "text/csv", "Content-Encoding": "gzip" } : {}) };
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => progress(measure(samples, event.loaded, event.total)));
    request.addEventListener("error", () => reject(unreachable("The connection broke before the server had answered. Nothing was lost: try again.")));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    request.addEventListener("load", () => {
      const answer = parse(request.responseText);
      if (request.status === 202) return resolve(answer);
      if (request.status === 401) session.dispatchEvent(new Event("expired"));
      reject(new Problem(request.status, answer ?? {}));
    });
    signal.addEventListener("abort", () => request.abort());
    if (isGzip) return request.send(file);
    const form = new FormData();
    form.append("file", file, file.name);
    request.send(form);
  });
}

/** @param {{ at: number, sent: number }[]} samples @param {number} sent @param {number} total @returns {Progress} */
function measure(samples, sent, total) {
  const now = performance.now();
  samples.push({ at: now, sent });
  while (samples.length > 2 && now - samples[1].at > SPEED_OVER_MS) samples.shift();
  const seconds = Math.max((now - samples[0].at) / 1000, 0.001);
  const perSecond = (sent - samples[0].sent) / seconds;
  return { sent, total, perSecond, secondsLeft: perSecond > 0 ? (total - sent) / perSecond : null };
}

/** Names one upload, however often it is tried. */
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * All that is wrong with a refused file, as CSV from the server: its own answer holds only the first hundred.
 * @param {string} path @param {File} file @param {boolean} isGzip @param {AbortSignal} signal
 * @returns {Promise<Blob>}
 */
export async function allErrors(path, file, isGzip, signal) {
  const headers = { ...PAGE_HEADERS, Accept: "text/csv", "Content-Type": "text/csv", ...(isGzip ? { "Content-Encoding": "gzip" } : {}) };
  let response;
  try {
    response = await fetch(withQuery(path, { validate_only: "true" }), { method: "POST", headers, body: file, signal });
  } catch {
    throw unreachable();
  }
  if (!response.headers.get("Content-Type")?.startsWith("text/csv")) {
    throw new Problem(response.status, parse(await response.text()) ?? {});
  }
  return response.blob();
}

/** Hands a file that was made here to the reader. @param {Blob} blob @param {string} name */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
