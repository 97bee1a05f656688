// @ts-check
// What changes while one looks: a batch by server-sent events, anything else by asking again. A server that is away is
// asked until it is back; a page that nobody sees asks nothing.

import { Problem, get, parse } from "./api.js";
import { isFinished } from "./parts.js";
import { linkState } from "./say.js";

/** @import { Batch } from "./types.js" */

/** From one failed try to the next: it doubles up to the largest. */
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 10_000;
/** Between two questions about a batch that no events come of. */
const BATCH_MS = 2_000;
/** Events that ended are listened for again after this, and after the longer one where not a single event came. */
const LISTEN_AGAIN_MS = 2_000;
const LISTEN_LATER_MS = 30_000;

/**
 * Asks again and again, until `signal` says stop.
 * @template T
 * @param {{ every: number, ask: () => Promise<T>, use: (answer: T) => void, fail?: (problem: Problem) => void, signal: AbortSignal }} options
 * @returns {{ now: () => void }} `now` asks at once
 */
export function poll({ every, ask, use, fail, signal }) {
  let wait = FIRST_WAIT_MS;
  let timer = 0;
  let running = false;
  async function turn() {
    clearTimeout(timer);
    if (signal.aborted || running) return;
    running = true;
    let next = every;
    try {
      use(await ask());
      wait = FIRST_WAIT_MS;
      linkState(null);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Problem)) throw error;
      if (error.isPassing) linkState(away(error));
      fail?.(error);
      next = Math.max(error.isPassing ? wait : every, FIRST_WAIT_MS);
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    } finally {
      running = false;
      if (!signal.aborted && !document.hidden) timer = window.setTimeout(turn, next);
    }
  }
  const seen = () => { if (!document.hidden) turn(); };
  document.addEventListener("visibilitychange", seen, { signal });
  window.addEventListener("online", seen, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  turn();
  return { now: turn };
}

/** @param {Problem} problem */
function away(problem) {
  return problem.code === "unreachable"
    ? "The server does not answer. Trying again; nothing is lost."
    : `${problem.message} Trying again.`;
}

/**
 * Follows a batch: events where they come, questions where they do not.
 * @param {string} id
 * @param {{ use: (batch: Batch) => void, fail: (problem: Problem) => void, signal: AbortSignal }} options
 * @returns {{ now: () => void }} `now` asks at once
 */
export function follow(id, { use, fail, signal }) {
  const path = `/v2/batches/${encodeURIComponent(id)}`;
  /** @type {EventSource | null} */
  let events = null;
  let isTold = false;
  let notBefore = 0;
  const close = () => {
    events?.close();
    events = null;
    isTold = false;
  };
  const listen = () => {
    if (events || signal.aborted || document.hidden || Date.now() < notBefore) return;
    const source = new EventSource(`${path}/events`);
    events = source;
    source.addEventListener("batch", (event) => {
      const batch = parse(event.data);
      if (!batch || signal.aborted) return;
      isTold = true;
      linkState(null);
      use(batch);
    });
    // The browser's own reconnecting cannot tell "gone" from "away": the questions below find out which it is.
    source.addEventListener("error", () => {
      if (events !== source) return;
      notBefore = Date.now() + (isTold ? LISTEN_AGAIN_MS : LISTEN_LATER_MS);
      close();
      questions.now();
    });
  };
  const questions = poll({
    every: BATCH_MS,
    signal,
    fail,
    ask: async () => (isTold ? null : get(path, signal)),
    use: (batch) => {
      if (batch) use(batch);
      // Of a finished batch nothing more is told, until somebody retries it.
      if (!batch || !isFinished(batch)) listen();
    },
  });
  document.addEventListener("visibilitychange", () => { if (document.hidden) close(); }, { signal });
  signal.addEventListener("abort", close);
  return {
    now: () => {
      isTold = false;
      questions.now();
    },
  };
}
