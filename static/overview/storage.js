// @ts-check
// Room: the database, its log, the disk.

import { el } from "../dom.js";
import { bytes, count, plural, share } from "../format.js";

/** @import { Overview } from "../types.js" */

/** A disk with less room than this share is told loudly. */
const LITTLE_ROOM = 0.1;

/** @param {Overview} overview */
export function storageFacts({ storage, late_settles: late, deletions = [] }) {
  const { disk_free_bytes: free, disk_total_bytes: total } = storage;
  const isLow = free !== null && total !== null && free < total * LITTLE_ROOM;
  const size = (/** @type {number | null} */ value) => (value === null ? "not known" : bytes(value));
  const fact = (/** @type {string} */ name, /** @type {string} */ value, kind = "") =>
    el("div", {}, el("dt", {}, name), el("dd", { class: kind }, value));
  return el("dl", { class: "facts" },
    fact("Disk free", free === null || total === null ? "not known" : `${bytes(free)} of ${bytes(total)} (${share(free, total)})`, isLow ? "bad-text" : ""),
    fact("Database", size(storage.database_bytes)),
    fact("Its log (WAL)", size(storage.wal_bytes)),
    deletions.length > 0 && fact("Deleted, being cleared away", `${plural(deletions.reduce((sum, it) => sum + it.rows_left, 0), "row")} of ${plural(deletions.length, "batch", "batches")}`),
    fact("Outcomes that came too late", count(late)));
}
