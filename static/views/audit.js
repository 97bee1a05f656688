// @ts-check
// Who did what, when, from where and why; newest first.

import { get, withQuery } from "../api.js";
import { auditTable } from "../audit_table.js";
import { el, show } from "../dom.js";
import { poll } from "../live.js";
import { faultNote, link, title } from "../parts.js";
import { address } from "../router.js";

/** @import { Visit } from "../main.js" */

const PAGE = 50;
const EVERY_MS = 10_000;

/** @param {Visit} visit */
export function view({ root, query, signal }) {
  const after = query.get("after");
  show(root, title("Audit"));
  poll({
    every: EVERY_MS,
    signal,
    ask: () => get(withQuery("/ops/v1/audit", { limit: PAGE, after }), signal),
    fail: (problem) => { if (!problem.isPassing) show(root, title("Audit"), faultNote(problem.message)); },
    use: ({ entries, next }) => show(root,
      title("Audit"),
      el("p", { class: "soft" }, "Every change that an operator makes, and every look at private values."),
      auditTable(entries),
      el("div", { class: "pager" },
        after && link("#/audit", "Newest"),
        next && el("a", { class: "button", href: address("/audit", { after: next }) }, "Older"))),
  });
}
