// @ts-check
// The rows of a batch: filtered, and paged through by cursor, which is as quick at row 900,000 as at row 1.

import { Problem, get, withQuery } from "../api.js";
import { el, show } from "../dom.js";
import { ago, count } from "../format.js";
import { may } from "../may.js";
import { faultNote, link, nameOf, pill, ROW_STATUSES, table, td, th, title } from "../parts.js";
import { address, go } from "../router.js";
import { shown, valuesSwitch } from "../values.js";

/** @import { Visit } from "../main.js" */
/** @import { Batch, ErrorGroup, Row } from "../types.js" */

/** Rows of one page. */
const PAGE = 50;
/** A filter that few rows pass gets short pages: so many are asked for before the reader is asked. */
const MOST_ASKED = 20;
/** Columns of the file beside the rest: one row's own page has them all. */
const COLUMNS_SHOWN = 4;

/** Whether values are shown, for as long as one stays with a batch. @type {{ id: string, isShown: boolean }} */
const values = { id: "", isShown: false };

/** @param {Visit} visit */
export async function view({ root, parts, query, who, signal }) {
  const { id } = parts;
  const [status, code, after] = [query.get("status") ?? "", query.get("code") ?? "", query.get("after") ?? ""];
  const asOperator = who.kind === "operator";
  const base = `/v2/batches/${encodeURIComponent(id)}`;
  if (values.id !== id) Object.assign(values, { id, isShown: false });
  show(root, el("div", { class: "head" }, title("Rows")), el("p", { class: "soft", "aria-busy": "true" }, "Looking…"));
  try {
    const [batch, { groups }] = await Promise.all([get(base, signal), get(`${base}/errors`, signal)]);
    let page = await load();
    const draw = () => show(root,
      el("div", { class: "head" }, title("Rows"), el("p", {}, link(address(`/batches/${id}`), `Back to ${nameOf(batch)}`))),
      filters(batch, groups),
      list(page.rows, page.next));
    draw();

    async function load(more = after) {
      /** @type {Row[]} */
      const rows = [];
      let next = /** @type {string | null} */ (more);
      for (let asked = 0; asked < MOST_ASKED && rows.length < PAGE; asked += 1) {
        const answer = await get(withQuery(`${base}/rows`, {
          status, code, after: next, limit: PAGE - rows.length, reveal: asOperator && values.isShown ? "true" : "",
        }), signal);
        rows.push(...answer.rows);
        next = answer.next;
        if (!next) break;
      }
      return { rows, next };
    }

    /** @param {Batch} batch @param {ErrorGroup[]} groups */
    function filters(batch, groups) {
      const codes = [...new Set(groups.map((group) => group.code))];
      const tab = (/** @type {string} */ value, /** @type {string} */ name, /** @type {number} */ rows) =>
        el("a", { href: address(`/batches/${id}/rows`, { status: value }), "aria-current": status === value ? "true" : null }, name, " ",
          el("span", { class: "soft" }, count(rows)));
      return el("div", { class: "filters" },
        el("nav", { class: "tabs", "aria-label": "Rows by status" },
          tab("", "all", batch.counts.total), ROW_STATUSES.map((name) => tab(name, name, batch.counts[name]))),
        codes.length > 0 && el("label", { class: "inline" }, "Error",
          el("select", {
            onchange: (/** @type {any} */ event) => go(`/batches/${id}/rows`, { status: event.target.value ? "failed" : status, code: event.target.value }),
          },
          el("option", { value: "" }, "any"),
          codes.map((name) => el("option", { value: name, selected: name === code }, name)))),
        el("form", {
          class: "inline",
          onsubmit: (/** @type {any} */ event) => {
            event.preventDefault();
            go(`/batches/${id}/rows/${new FormData(event.target).get("row")}`);
          },
        },
        el("label", { class: "inline" }, "Row", el("input", { name: "row", type: "number", min: 1, max: batch.counts.total, required: true })),
        el("button", {}, "Open")),
        valuesSwitch({
          isShown: values.isShown,
          mayReveal: may(who).reveal,
          asOperator,
          what: "the values of the rows of this page, and of those that you page to",
          path: `${base}/rows`,
          change: async (isShown) => {
            values.isShown = isShown;
            page = await load();
            draw();
          },
        }));
    }

    /** @param {Row[]} rows @param {string | null} next */
    function list(rows, next) {
      const columns = Object.keys(rows[0]?.data ?? {}).slice(0, COLUMNS_SHOWN);
      return [
        rows.length === 0 && el("p", { class: "empty" }, next ? "None so far: the search goes on with “Next”." : "No row is like that."),
        rows.length > 0 && table("Rows",
          [th("Row", "number"), th("Status"), ...columns.map((name) => th(name, "wide")), th("Result"), th("Line", "number wide"), th("Attempts", "number wide")],
          rows.map((row) => el("tr", { "data-key": row.row },
            td(link(address(`/batches/${id}/rows/${row.row}`), count(row.row)), "number"),
            td(pill(row.status)),
            columns.map((name) => td(shown(row.data[name], values.isShown), "wide value")),
            td(outcome(row)),
            td(count(row.line), "number wide"),
            td(count(row.attempts), "number wide")))),
        (next || after) && el("div", { class: "pager" },
          after && link(address(`/batches/${id}/rows`, { status, code }), "First page"),
          after && el("button", { type: "button", onclick: () => history.back() }, "Back"),
          next && el("a", { class: "button", href: address(`/batches/${id}/rows`, { status, code, after: next }) }, "Next"))];
    }
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Problem)) throw error;
    show(root, title("Rows"), faultNote(error.message), el("p", {}, link(address(`/batches/${id}`), "Back to the batch")));
  }
}

/** @param {Row} row */
function outcome(row) {
  if (row.status === "completed") return el("code", {}, shown(row.check_id, true));
  if (row.error) {
    return [el("strong", {}, row.error.code), row.error.http_status && ` ${row.error.http_status}`,
      row.error.step && el("span", { class: "soft" }, ` at ${row.error.step}`),
      row.next_attempt_at && row.status === "pending" && [", again ", ago(row.next_attempt_at)]];
  }
  return el("span", { class: "soft" }, row.waiting_for ?? "–");
}
