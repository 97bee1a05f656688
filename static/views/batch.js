// @ts-check
// One batch, at an address that can be shared: how far it is, when it will be done, why it waits, and what can be done.

import { get } from "../api.js";
import { batchActions } from "../batch_actions.js";
import { codeLine, curl } from "../dialog.js";
import { el, show } from "../dom.js";
import { ago, bytes, count, duration, plural, share, time } from "../format.js";
import { follow, poll } from "../live.js";
import { may } from "../may.js";
import { bar, batchPill, download, ended, faultNote, isFinished, legend, link, nameOf, table, td, th, title } from "../parts.js";
import { Pace } from "../pace.js";
import { address } from "../router.js";
import { speak } from "../say.js";

/** @import { Visit } from "../main.js" */
/** @import { Batch, ErrorGroup } from "../types.js" */

const ERRORS_EVERY_MS = 4_000;

/** @param {Visit} visit */
export function view({ root, parts, who, signal }) {
  const { id } = parts;
  const asOperator = who.kind === "operator";
  const { manage } = may(who);
  const pace = new Pace();
  /** @type {Batch | null} */
  let batch = null;
  /** @type {ErrorGroup[]} */
  let groups = [];
  let isGone = false;
  const act = batchActions({ asOperator, changed: () => { live.now(); errors.now(); }, gone: () => { isGone = true; } });
  show(root, el("div", { class: "head" }, title("Batch")));

  const draw = () => {
    if (!batch) return;
    document.title = `${share(ended(batch.counts), batch.counts.total)} ${nameOf(batch)} · dripfeed`;
    show(root, head(batch), state(batch, pace), manage && actions(batch, groups, act), failures(batch, groups, manage ? act : null), files(batch), shell(batch, asOperator));
  };
  const live = follow(id, {
    signal,
    use: (next) => {
      if (batch && isFinished(next) && !isFinished(batch)) speak(`The batch is ${next.status}.`);
      const hasOthers = next.counts.failed !== (batch?.counts.failed ?? 0);
      batch = next;
      if (hasOthers) errors.now();
      pace.add(ended(next.counts));
      draw();
    },
    fail: (problem) => {
      if (problem.isPassing) return;
      show(root, title(isGone ? "This batch is deleted" : "Batch"),
        !isGone && faultNote(problem.status === 404 ? "There is no such batch, or it is not yours to see." : problem.message),
        el("p", {}, link("#/", "Go to your batches")));
    },
  });
  const errors = poll({
    every: ERRORS_EVERY_MS,
    signal,
    ask: async () => (batch && batch.counts.failed > 0 ? (await get(`/v2/batches/${encodeURIComponent(id)}/errors`, signal)).groups : []),
    use: (found) => {
      groups = found;
      draw();
    },
  });
}

/** @param {Batch} batch */
function head(batch) {
  return el("div", { class: "head" },
    title([nameOf(batch), " ", batchPill(batch)]),
    el("p", { class: "soft" },
      batch.client && [el("strong", {}, batch.client), " · "],
      plural(batch.counts.total, "row"), " · ", bytes(batch.file.bytes), " · uploaded ", ago(batch.created_at),
      batch.finished_at && [" · finished ", ago(batch.finished_at)],
      batch.file.name && [" · ", el("code", { class: "id" }, batch.id)]));
}

/** @param {Batch} batch @param {Pace} pace */
function state(batch, pace) {
  const { counts, estimate } = batch;
  const done = ended(counts);
  const perMinute = pace.perMinute();
  return el("section", { class: "card", "aria-label": "Progress" },
    batch.error && faultNote(`${batch.error.message} (${batch.error.code})`),
    el("p", { class: "big" }, el("strong", {}, share(done, counts.total)), " ",
      el("span", { class: "soft" }, `${count(done)} of ${plural(counts.total, "row")}`)),
    bar(counts),
    legend(batch),
    batch.waiting_for && el("p", { class: "note wait" }, el("strong", {}, "Waiting: "), batch.waiting_for),
    batch.skipped > 0 && el("p", {}, link(address(`/batches/${batch.id}/skipped`), `${plural(batch.skipped, "line")} of the file ${batch.skipped === 1 ? "was" : "were"} left out`)),
    !isFinished(batch) && el("dl", { class: "facts" },
      fact("Speed", perMinute === null ? "measuring…" : `${plural(Math.round(perMinute), "row")} a minute`),
      fact("Done", estimate ? ["in ", duration(estimate.seconds), ", ", time(estimate.finished_at)] : "not known yet"),
      estimate && fact("What bounds it", estimate.reason)));
}

/** @param {string} name @param {import("../dom.js").Child} value */
const fact = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));

/** @param {Batch} batch @param {ErrorGroup[]} groups @param {ReturnType<typeof batchActions>} act */
function actions(batch, groups, act) {
  const button = (/** @type {string} */ name, /** @type {() => unknown} */ onclick, kind = "") =>
    el("button", { type: "button", class: kind, "data-key": name, onclick }, name);
  const open = !isFinished(batch);
  return el("div", { class: "actions start", role: "group", "aria-label": "What can be done with this batch" },
    open && !batch.paused && button("Pause", () => act.pause(batch)),
    open && batch.paused && button("Resume", () => act.resume(batch), "main"),
    batch.counts.failed > 0 && batch.status !== "cancelled" && batch.status !== "failed"
      && button(`Retry ${plural(batch.counts.failed, "failed row")}`, () => act.retry(batch, groups)),
    open && button("Cancel the batch", () => act.cancel(batch), "grave"),
    !open && button("Delete the batch", () => act.delete(batch), "grave"));
}

/** @param {Batch} batch @param {ErrorGroup[]} groups @param {ReturnType<typeof batchActions> | null} act */
function failures(batch, groups, act) {
  if (groups.length === 0) return null;
  const canRetry = act && batch.status !== "cancelled" && batch.status !== "failed";
  return el("section", { "aria-labelledby": "failures-title" },
    el("h2", { id: "failures-title" }, "What went wrong"),
    table("What went wrong",
      [th("Rows", "number"), th("Step"), th("Error"), th("For example", "wide"), th("")],
      groups.map((group) => el("tr", { "data-key": `${group.step} ${group.code} ${group.http_status}` },
        td(count(group.count), "number"),
        td(group.step ?? "–"),
        td([link(address(`/batches/${batch.id}/rows`, { status: "failed", code: group.code }), group.code),
          group.http_status && el("span", { class: "soft" }, ` HTTP ${group.http_status}`)]),
        td(group.example_row ? link(address(`/batches/${batch.id}/rows/${group.example_row}`), `row ${count(group.example_row)}`) : "–", "wide"),
        td(canRetry && el("button", { type: "button", class: "small", onclick: () => act.retryGroup(batch, group),
          "aria-label": `Retry ${group.code} at ${group.step ?? "a step"}` }, "Retry"))))));
}

/** @param {Batch} batch */
function files(batch) {
  const results = `/v2/batches/${batch.id}/results.csv`;
  return el("section", { "aria-labelledby": "files-title" },
    el("h2", { id: "files-title" }, "Downloads"),
    el("div", { class: "actions start" },
      download(results, "All results"),
      batch.counts.failed > 0 && download(`${results}?status=failed`, `Failed rows (${count(batch.counts.failed)})`),
      batch.counts.completed > 0 && download(`${results}?status=completed`, `Completed rows (${count(batch.counts.completed)})`)),
    el("p", { class: "soft" }, "CSV, in your file's order and columns, safe to open in a spreadsheet. Correct the failed rows and upload that file as it is."));
}

/** @param {Batch} batch @param {boolean} asOperator */
function shell(batch, asOperator) {
  const path = `/v2/batches/${batch.id}`;
  return el("details", { class: "same" }, el("summary", {}, "The same from a shell"),
    el("div", { "data-own": true },
      codeLine("How it is", curl("GET", path, { asOperator })),
      codeLine("Results", curl("GET", `${path}/results.csv`, { asOperator })),
      codeLine("Command", `dripfeed batch show ${batch.id}`)));
}
