// @ts-check
// What has to be kept: room on the disk, the encryption keys, a backup.

import { el } from "../dom.js";
import { ago, bytes, count, plural, share } from "../format.js";

/** @import { Child } from "../dom.js" */
/** @import { Overview } from "../types.js" */

/** A disk with less room than this share is told loudly. */
const LITTLE_ROOM = 0.1;

/** @param {Overview} overview */
export function storageFacts({ storage, keys, last_backup: backup, late_settles: late, deletions }) {
  const { disk_free_bytes: free, disk_total_bytes: total } = storage;
  const isLow = free !== null && total !== null && free < total * LITTLE_ROOM;
  const size = (/** @type {number | null} */ value) => (value === null ? "not known" : bytes(value));
  const fact = (/** @type {string} */ name, /** @type {Child} */ value, kind = "") =>
    el("div", {}, el("dt", {}, name), el("dd", { class: kind }, value));
  return el("dl", { class: "facts" },
    fact("Disk free", free === null || total === null ? "not known" : `${bytes(free)} of ${bytes(total)} (${share(free, total)})`, isLow ? "bad-text" : ""),
    fact("Database", size(storage.database_bytes)),
    fact("Its log (WAL)", size(storage.wal_bytes)),
    fact("Last backup", backup ? [ago(backup.at), ` to ${backup.place}`] : "none yet: dripfeed backup TO", backup ? "" : "bad-text"),
    fact("Keys, the first one seals", keys.join(", ")),
    deletions.length > 0 && fact("Deleted, being cleared away", `${plural(deletions.reduce((sum, it) => sum + it.rows_left, 0), "row")} of ${plural(deletions.length, "batch", "batches")}`),
    fact("Outcomes that came too late", count(late)));
}
