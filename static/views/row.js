// @ts-check
// One row, with every call that was made for it.

import { get, withQuery } from "../api.js";
import { codeLine, curl } from "../dialog.js";
import { el, show } from "../dom.js";
import { ago, count, milliseconds, plural, time } from "../format.js";
import { poll } from "../live.js";
import { may } from "../may.js";
import { faultNote, link, pill, title } from "../parts.js";
import { address } from "../router.js";
import { shown, valuesSwitch } from "../values.js";

/** @import { Visit } from "../main.js" */
/** @import { Row, Step } from "../types.js" */

const EVERY_MS = 3_000;

/** @param {Visit} visit */
export function view({ root, parts, who, signal }) {
  const { id, row: number } = parts;
  const asOperator = who.kind === "operator";
  const path = `/v2/batches/${encodeURIComponent(id)}/rows/${encodeURIComponent(number)}`;
  let isShown = false;
  /** What was revealed is looked at once, so that one wish is one entry of the audit. @type {Row | null} */
  let revealed = null;
  /** @type {Row | null} */
  let row = null;
  const name = `Row ${number}`;
  const back = () => el("p", {}, link(address(`/batches/${id}`), "The batch"), " · ", link(address(`/batches/${id}/rows`), "All rows"));
  show(root, el("div", { class: "head" }, title(name), back()));

  const draw = () => {
    if (!row) return;
    const seen = revealed && isShown ? { ...row, data: revealed.data, steps: revealed.steps, error: row.error && revealed.error } : row;
    show(root,
      el("div", { class: "head" }, title([name, " ", pill(row.status)]), back(),
        el("p", { class: "soft" }, `Line ${count(row.line)} of the file`,
          row.attempts > 0 && `, ${plural(row.attempts, "attempt")} at its step`,
          row.next_attempt_at && [", tried again ", ago(row.next_attempt_at)])),
      row.waiting_for && el("p", { class: "note wait" }, el("strong", {}, "Waiting: "), row.waiting_for),
      seen.error && fault(seen.error, isShown),
      el("div", { class: "columns-2" },
        el("section", { class: "card", "aria-labelledby": "data-title" },
          el("div", { class: "between" }, el("h2", { id: "data-title" }, "Values"),
            valuesSwitch({
              isShown, mayReveal: may(who).reveal, asOperator, path, what: `the values of row ${number}`,
              change: async (wish) => {
                if (wish && asOperator && !revealed) revealed = await get(withQuery(path, { reveal: "true" }), signal);
                isShown = wish;
                draw();
              },
            })),
          pairs(seen.data, isShown)),
        el("section", { "aria-labelledby": "steps-title" },
          el("h2", { id: "steps-title" }, "Calls"),
          el("ol", { class: "steps" }, seen.steps.map((step) => stepItem(step, isShown))),
          row.check_id !== null && el("p", {}, "Result: ", el("code", {}, shown(row.check_id, true))))),
      el("div", { class: "pager" },
        row.row > 1 && link(address(`/batches/${id}/rows/${row.row - 1}`), `Row ${count(row.row - 1)}`),
        link(address(`/batches/${id}/rows/${row.row + 1}`), `Row ${count(row.row + 1)}`)),
      el("details", { class: "same" }, el("summary", {}, "The same from a shell"),
        el("div", { "data-own": true },
          codeLine("curl", curl("GET", path, { asOperator })),
          codeLine("Command", `dripfeed row show ${id}/${number}`),
          asOperator && may(who).manage && codeLine("Work it now", `dripfeed row run ${id}/${number}`))));
  };
  poll({
    every: EVERY_MS,
    signal,
    ask: () => get(path, signal),
    use: (next) => {
      row = next;
      draw();
    },
    fail: (problem) => {
      if (!problem.isPassing) show(root, title(name), faultNote(problem.status === 404 ? "The batch has no such row." : problem.message), back());
    },
  });
}

/** @param {NonNullable<Row["error"]>} error @param {boolean} isShown */
function fault(error, isShown) {
  return el("div", { class: "note bad" },
    el("p", {}, el("strong", {}, error.code), error.http_status && ` · HTTP ${error.http_status}`, error.step && ` · at ${error.step}`),
    el("p", {}, error.message),
    error.body && el("details", {}, el("summary", {}, "The answer's body"), el("pre", {}, shown(error.body, isShown))));
}

/** @param {Record<string, unknown>} values @param {boolean} isShown */
function pairs(values, isShown) {
  return el("dl", { class: "pairs" }, Object.entries(values).map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, shown(value, isShown)))));
}

/** @param {Step} step @param {boolean} isShown */
function stepItem(step, isShown) {
  return el("li", { class: step.status },
    el("p", { class: "between" }, el("strong", {}, step.name), pill(step.status)),
    el("p", { class: "soft" },
      step.requests === 0 ? "Not called yet." : [
        plural(step.requests, "request"), step.http_status && ` · HTTP ${step.http_status}`,
        step.duration_ms !== null && ` · ${milliseconds(step.duration_ms)}`, step.at && [" · ", time(step.at)]]),
    Object.keys(step.saved).length > 0 && pairs(step.saved, isShown));
}
