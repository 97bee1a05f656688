// @ts-check
// Everything that somebody on call wants to see first, on one page.

import { get, withQuery } from "../api.js";
import { auditTable } from "../audit_table.js";
import { batchItem } from "../batch_list.js";
import { el, show } from "../dom.js";
import { ago, count, plural, time } from "../format.js";
import { poll } from "../live.js";
import { alertNotes } from "../overview/alerts.js";
import { clientsTable } from "../overview/clients.js";
import { dependencyCards } from "../overview/dependencies.js";
import { storageFacts } from "../overview/storage.js";
import { stuckPanel } from "../overview/stuck.js";
import { dispatchSwitch } from "../overview/switch.js";
import { may } from "../may.js";
import { faultNote, link, table, td, th, title } from "../parts.js";

/** @import { Visit } from "../main.js" */
/** @import { AuditEntry, Overview, Run } from "../types.js" */

const EVERY_MS = 2_000;
/** Runs and the audit move slower. */
const LISTS_EVERY_MS = 10_000;
const RUNS_SHOWN = 8;
const ENTRIES_SHOWN = 8;

/** @param {Visit} visit */
export function view({ root, who, signal }) {
  const { manage } = may(who);
  /** @type {Overview | null} */
  let overview = null;
  /** @type {Run[]} */
  let runs = [];
  /** @type {AuditEntry[]} */
  let entries = [];
  show(root, title("Overview"), el("p", { class: "soft", "aria-busy": "true" }, "Looking…"));

  const changed = () => {
    live.now();
    lists.now();
  };
  const stuck = stuckPanel(manage, changed);
  const draw = () => {
    if (!overview) return;
    show(root,
      title("Overview"),
      dispatchSwitch(overview, manage, changed),
      overview.alerts.length > 0 && section("Alerts", alertNotes(overview.alerts)),
      section("Dependencies", dependencyCards(overview.dependencies, manage, changed)),
      section("Batches", [
        overview.batches.length === 0 && el("p", { class: "empty" }, "No batch has been uploaded yet."),
        el("ul", { class: "batches" }, overview.batches.slice(0, 10).map(batchItem)),
        el("p", {}, link("#/batches", "All batches"))]),
      section("Clients", clientsTable(overview.clients, manage, changed)),
      section("Stuck", stuck.draw(overview.stuck)),
      section("Last runs", lastRuns(runs)),
      section("Storage, keys, backup", storageFacts(overview)),
      section("Audit", [auditTable(entries), el("p", {}, link("#/audit", "The whole audit"))]),
      el("p", { class: "soft" }, "As of ", time(overview.at)));
  };
  const live = poll({
    every: EVERY_MS,
    signal,
    ask: () => get("/ops/v1/overview", signal),
    use: (next) => {
      overview = next;
      draw();
    },
    fail: (problem) => { if (!problem.isPassing) show(root, title("Overview"), faultNote(problem.message)); },
  });
  const lists = poll({
    every: LISTS_EVERY_MS,
    signal,
    ask: () => Promise.all([
      get(withQuery("/ops/v1/dispatch/runs", { limit: RUNS_SHOWN }), signal),
      get(withQuery("/ops/v1/audit", { limit: ENTRIES_SHOWN }), signal),
    ]),
    use: ([told, audit]) => {
      runs = told.runs;
      entries = audit.entries;
      draw();
    },
  });
}

/** @param {string} name @param {import("../dom.js").Child} content */
function section(name, content) {
  const id = `${name.toLowerCase().replace(/\W/g, "-")}-title`;
  return el("section", { "aria-labelledby": id }, el("h2", { id }, name), content);
}

/** A run names those with the most rows. @param {Run} run */
function others({ clients, granted }) {
  return clients > granted.length ? `, and ${plural(clients - granted.length, "other")}` : "";
}

/** @param {Run[]} runs */
function lastRuns(runs) {
  if (runs.length === 0) return el("p", { class: "empty" }, "There was no dispatch run yet.");
  return table("Last runs", [th("Run", "number"), th("When"), th("Rows", "number"), th("Granted")],
    runs.map((run) => el("tr", { "data-key": run.run },
      td(count(run.run), "number"), td(ago(run.at)), td(count(run.rows), "number"),
      td(run.granted.length === 0 ? el("span", { class: "soft" }, "nobody had rows waiting")
        : run.granted.map(({ client, rows }) => `${client} ${count(rows)}`).join(", ") + others(run)))));
}

