// @ts-check
// Who uploads: what waits, what failed, and how many rows a run grants, to be changed in place.

import { patch } from "../api.js";
import { ask, curl, quoted } from "../dialog.js";
import { el } from "../dom.js";
import { bytes, count, plural } from "../format.js";
import { pill, table, td, th } from "../parts.js";

/** @import { Client, Quota } from "../types.js" */

/** From this share of a quota on it is shown as nearly used up. */
const NEARLY = 0.9;

/** @param {Client[]} clients @param {boolean} mayChange @param {() => void} changed */
export function clientsTable(clients, mayChange, changed) {
  if (clients.length === 0) {
    return el("p", { class: "empty" }, "There is no client yet: ", el("code", {}, "dripfeed client add NAME"));
  }
  return table("Clients",
    [th("Client"), th("Waiting", "number"), th("Under way", "number wide"), th("Done", "number wide"), th("Failed", "number wide"), th("Of its quotas", "wide"), th("Rows a run"), mayChange && th("")],
    clients.map((client) => el("tr", { "data-key": client.name },
      td([client.name, client.paused && [" ", pill("paused")]]),
      td(count(client.pending), "number"),
      td(count(client.processing), "number wide"),
      td(count(client.completed), "number wide"),
      td(client.failed > 0 ? el("strong", { class: "bad-text" }, count(client.failed)) : "0", "number wide"),
      td(used(client), "wide"),
      td(mayChange ? limitForm(client, changed) : count(client.limit)),
      mayChange && td(el("button", { type: "button", class: "small", onclick: () => setPaused(client, changed),
        "aria-label": `${client.paused ? "Resume" : "Pause"} ${client.name}` }, client.paused ? "Resume" : "Pause")))));
}

/** What a client uses of what it may have. @param {Client} client */
function used({ quotas }) {
  const { pending_rows: rows, stored_bytes: stored, batches } = quotas;
  return [part(rows, count, "rows"), " · ", part(stored, bytes, "stored"), " · ", part(batches, count, "batches")];
}

/** @param {Quota} quota @param {(number: number) => string} show @param {string} what */
function part({ used: some = 0, limit }, show, what) {
  const title = `${show(some)} of ${show(limit)} ${what}`;
  return el("span", { class: some >= limit * NEARLY ? "bad-text" : "soft", title }, `${limit > 0 ? Math.round(100 * some / limit) : 100} % ${what}`);
}

/** @param {Client} client @param {() => void} changed */
function limitForm(client, changed) {
  return el("form", { class: "inline", onsubmit: (/** @type {any} */ event) => setLimit(event, client, changed) },
    el("input", { name: "rows", type: "number", min: 0, step: 1, inputmode: "numeric", value: client.rows_per_run ?? "", placeholder: String(client.limit),
      "aria-label": `Rows a run of ${client.name}; empty for the default` }),
    el("button", { class: "small" }, "Set"));
}

/** @param {any} event @param {Client} client @param {() => void} changed */
async function setLimit(event, client, changed) {
  event.preventDefault();
  const typed = String(new FormData(event.target).get("rows"));
  const rows = typed === "" ? null : Number(typed);
  const path = `/ops/v1/clients/${encodeURIComponent(client.name)}`;
  const words = rows === null ? "the default number of rows" : plural(rows, "row");
  const runs = rows ? ` The ${plural(client.pending, "row")} that wait then need at least ${plural(Math.ceil(client.pending / rows), "run")}.` : "";
  const did = await ask({
    title: `Grant ${client.name} ${words} a run?`,
    does: el("p", {}, `It is ${plural(client.limit, "row")} a run now, and changes also in the run that is under way.${runs}`),
    verb: rows === null ? "Back to the default" : `Set ${plural(rows, "row")} a run`,
    curl: () => curl("PATCH", path, { body: { rows_per_run: rows }, asOperator: true }),
    command: rows === null ? undefined : () => `dripfeed client limit ${quoted(client.name)} --rows-per-run ${rows}`,
    act: async () => {
      await patch(path, { rows_per_run: rows });
      return `${client.name} gets ${words} a run.`;
    },
  });
  if (did) changed();
}

/** @param {Client} client @param {() => void} changed */
async function setPaused(client, changed) {
  const { name, pending, processing, batches } = client;
  const pause = !client.paused;
  const path = `/ops/v1/clients/${encodeURIComponent(name)}`;
  const did = await ask({
    title: pause ? `Pause ${name}?` : `Resume ${name}?`,
    does: el("p", {}, pause
      ? `${plural(pending, "row")} of ${plural(batches, "batch", "batches")} will wait. ${plural(processing, "row")} under way will be finished. Uploads are still taken.`
      : `${plural(pending, "row")} of ${plural(batches, "batch", "batches")} will go on.`),
    verb: pause ? "Pause" : "Resume",
    curl: () => curl("PATCH", path, { body: { paused: pause }, asOperator: true }),
    command: () => `dripfeed client ${pause ? "pause" : "resume"} ${quoted(name)}`,
    act: async () => {
      await patch(path, { paused: pause });
      return pause ? `${name} is paused.` : `${name} goes on.`;
    },
  });
  if (did) changed();
}
