// @ts-check
// Parts that several views share.

import { count, plural, share } from "./format.js";
import { el } from "./dom.js";
import { address } from "./router.js";

/** @import { Child } from "./dom.js" */
/** @import { Batch, Counts } from "./types.js" */

/** In the order of the bar. */
export const ROW_STATUSES = /** @type {const} */ (["completed", "failed", "processing", "pending", "cancelled"]);

/** A word with its colour. @param {string} status @param {string} [text] */
export const pill = (status, text = status) => el("span", { class: `pill ${status}` }, text);

/** @param {Batch} batch */
export function batchPill(batch) {
  if (batch.paused && !isFinished(batch)) return pill("paused");
  if (batch.status === "completed" && batch.counts.failed > 0) return pill("failed", "completed with failures");
  const words = { pending: "waiting to start", processing: "being read", queued: "working" };
  return pill(batch.status, words[/** @type {keyof typeof words} */ (batch.status)] ?? batch.status);
}

/** @param {Batch} batch */
export const isFinished = ({ status }) => status === "completed" || status === "failed" || status === "cancelled";

/** What a batch is called. @param {Batch} batch */
export const nameOf = (batch) => batch.file.name ?? batch.id;

/** Rows that ended. @param {Counts} counts */
export const ended = (counts) => counts.completed + counts.failed + counts.cancelled;

/** How the rows of a batch stand, as a bar. @param {Counts} counts */
export function bar(counts) {
  const told = ROW_STATUSES.filter((status) => counts[status] > 0).map((status) => `${count(counts[status])} ${status}`);
  const label = `${share(ended(counts), counts.total)} ended: ${told.join(", ")}, of ${plural(counts.total, "row")}`;
  return el("div", { class: "bar", role: "img", "aria-label": label }, ROW_STATUSES.map((status) => {
    const part = el("span", { class: status, "data-key": status });
    part.style.flexGrow = String(counts[status]);
    return counts[status] > 0 && part;
  }));
}

/** The five counts, each leading to its rows. @param {Batch} batch */
export function legend({ id, counts }) {
  return el("ul", { class: "legend" }, ROW_STATUSES.map((status) =>
    el("li", { "data-key": status, class: counts[status] === 0 ? "none" : "" },
      el("a", { href: address(`/batches/${id}/rows`, { status }) },
        el("span", { class: `dot ${status}`, "aria-hidden": "true" }),
        el("strong", {}, count(counts[status])), " ", el("span", {}, status)))));
}

/**
 * A table that scrolls by itself where it is too wide, by touch and by keyboard.
 * @param {string} label
 * @param {Child[]} head
 * @param {Child[]} rows
 * @param {string} [kind]
 */
export function table(label, head, rows, kind = "") {
  return el("div", { class: `table ${kind}`, role: "group", "aria-label": label, tabindex: 0 },
    el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)));
}

/** @param {string} text @param {string} [kind] */
export const th = (text, kind = "") => el("th", { scope: "col", class: kind }, text);

/** @param {Child} content @param {string} [kind] */
export const td = (content, kind = "") => el("td", { class: kind }, content);

/** The heading of a view, which gets the focus when it comes. @param {Child} content */
export const title = (content) => el("h1", { tabindex: -1, id: "title" }, content);

/** What went wrong, in the words of the server. @param {string} text */
export const faultNote = (text) => el("p", { class: "note bad", role: "alert" }, text);

/** @param {string} href @param {Child} content */
export const link = (href, content) => el("a", { href }, content);

/** A file to download. @param {string} href @param {Child} content */
export const download = (href, content) => el("a", { href, download: "", class: "button" }, content);
