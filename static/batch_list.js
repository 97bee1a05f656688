// @ts-check
// A list of batches that keeps itself up to date: newest first, or those with trouble.

import { get, withQuery } from "./api.js";
import { el, show } from "./dom.js";
import { ago, count, share } from "./format.js";
import { poll } from "./live.js";
import { bar, batchPill, ended, faultNote, isFinished, link, nameOf } from "./parts.js";
import { address } from "./router.js";

/** @import { Batch } from "./types.js" */

/** Batches of one page. */
const PAGE = 20;
const EVERY_MS = 3_000;

/**
 * @param {HTMLElement} root
 * @param {{ signal: AbortSignal, empty: string, path?: string }} options
 */
export function batchList(root, { signal, empty, path = "/v2/batches" }) {
  /** The cursors of the pages up to the one that is shown. @type {string[]} */
  const trail = [];
  const list = poll({
    every: EVERY_MS,
    signal,
    ask: () => get(withQuery(path, { limit: PAGE, after: trail.at(-1) }), signal),
    fail: (problem) => { if (!problem.isPassing) show(root, faultNote(problem.message)); },
    use: ({ batches, next }) => {
      show(root,
        batches.length === 0 && trail.length === 0 && el("p", { class: "empty" }, empty),
        el("ul", { class: "batches" }, batches.map(batchItem)),
        (next || trail.length > 0) && el("div", { class: "pager" },
          el("button", { type: "button", disabled: trail.length === 0, onclick: () => { trail.pop(); list.now(); } }, "Newer"),
          el("button", { type: "button", disabled: !next, onclick: () => { trail.push(next); list.now(); } }, "Older")));
    },
  });
  return list;
}

/** A batch, as one of several. @param {Batch} batch */
export function batchItem(batch) {
  const { counts } = batch;
  return el("li", { "data-key": batch.id },
    el("div", { class: "batch-line" },
      el("span", { class: "batch-name" }, link(address(`/batches/${batch.id}`), nameOf(batch))),
      batchPill(batch),
      el("span", { class: "soft" }, batch.client && `${batch.client} · `, ago(batch.created_at))),
    bar(counts),
    el("p", { class: "soft" },
      `${count(counts.completed)} of ${count(counts.total)} completed`,
      counts.failed > 0 && [", ", el("strong", { class: "bad-text" }, `${count(counts.failed)} failed`)],
      !isFinished(batch) && ` · ${share(ended(counts), counts.total)} done`,
      batch.waiting_for && ` · waits: ${batch.waiting_for}`));
}
