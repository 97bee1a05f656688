// @ts-check
// Lines of a file that were left out, where a workflow goes on without them.

import { get, withQuery } from "../api.js";
import { el, show } from "../dom.js";
import { count } from "../format.js";
import { poll } from "../live.js";
import { faultNote, link, table, td, th, title } from "../parts.js";
import { address } from "../router.js";

/** @import { Visit } from "../main.js" */
/** @import { Finding } from "../types.js" */

const PAGE = 100;

/** @param {Visit} visit */
export function view({ root, parts, query, signal }) {
  const { id } = parts;
  const head = () => [title("Lines left out"), el("p", {}, link(address(`/batches/${id}`), "Back to the batch"))];
  show(root, head());
  poll({
    every: 60_000,
    signal,
    ask: () => get(withQuery(`/v2/batches/${id}/skipped`, { limit: PAGE, after: query.get("after") }), signal),
    fail: (problem) => { if (!problem.isPassing) show(root, head(), faultNote(problem.message)); },
    use: ({ skipped, next }) => show(root, head(),
      skipped.length === 0 && el("p", { class: "empty" }, "No line was left out."),
      table("Lines left out", [th("Line", "number"), th("Column"), th("What is wrong")],
        skipped.map((/** @type {Finding} */ fault) => el("tr", {},
          td(count(fault.line), "number"), td(fault.column ?? "–"), td(fault.message)))),
      next && link(address(`/batches/${id}/skipped`, { after: next }), "More")),
  });
}
