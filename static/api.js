// @ts-check
// The API, as the page calls it: with the session's cookie, and a header that no other site's form can send.

/** @import { ProblemBody } from "./types.js" */

/** Fires `expired` when the server no longer knows the session. */
export const session = new EventTarget();

/** An answer that says no, or no answer at all. */
export class Problem extends Error {
  /** @param {number} status @param {Partial<ProblemBody>} body */
  constructor(status, body) {
    super(body.detail ?? "The server gave an answer that this page does not understand.");
    this.status = status;
    this.code = body.code ?? "unknown";
    this.body = body;
  }

  /** Whether asking again later may help. */
  get isPassing() {
    return this.code === "unreachable" || this.status === 429 || this.status >= 500;
  }
}

/** @param {string} detail */
export const unreachable = (detail = "The server does not answer.") => new Problem(0, { code: "unreachable", detail });

/** The headers of a change. */
export const PAGE_HEADERS = { "X-Dripfeed": "page" };

/**
 * @param {string} method
 * @param {string} path
 * @param {{ body?: unknown, signal?: AbortSignal }} [options]
 * @returns {Promise<any>}
 */
async function call(method, path, { body, signal } = {}) {
  /** @type {Record<string, string>} */
  const headers = method === "GET" ? {} : { ...PAGE_HEADERS };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response, text;
  try {
    response = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw unreachable();
  }
  const answer = parse(text);
  if (response.ok) return answer;
  if (response.status === 401 && path !== "/session") session.dispatchEvent(new Event("expired"));
  throw new Problem(response.status, answer ?? {});
}

/** @param {string} text */
export function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @param {string} path @param {AbortSignal} [signal] */
export const get = (path, signal) => call("GET", path, { signal });
/** @param {string} path @param {unknown} [body] */
export const post = (path, body) => call("POST", path, { body });
/** @param {string} path @param {unknown} body */
export const patch = (path, body) => call("PATCH", path, { body });
/** @param {string} path */
export const del = (path) => call("DELETE", path);

/** A path with a query; what is empty is left out. @param {string} path @param {Record<string, unknown>} query */
export function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return search ? `${path}?${search}` : path;
}
