// @ts-check
// Entries of the audit.

import { el } from "./dom.js";
import { time } from "./format.js";
import { table, td, th } from "./parts.js";

/** @import { AuditEntry } from "./types.js" */

/** @param {AuditEntry[]} entries */
export function auditTable(entries) {
  if (entries.length === 0) return el("p", { class: "empty" }, "Nothing has been done yet.");
  return table("Audit", [th("When"), th("Who"), th("What"), th("To what"), th("Why"), th("From", "wide")],
    entries.map((entry) => el("tr", {},
      td(time(entry.at), "nowrap"), td(entry.who), td(el("code", {}, entry.action)), td(entry.target ?? "–", "value"),
      td(entry.why ?? "–", "value"), td(entry.from, "wide"))));
}
