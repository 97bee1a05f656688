// @ts-check
// The one big switch: dispatch.

import { post } from "../api.js";
import { ask, curl, quoted } from "../dialog.js";
import { el } from "../dom.js";
import { ago, plural, time } from "../format.js";

/** @import { Overview } from "../types.js" */

/** @param {Overview} overview @param {boolean} mayChange @param {() => void} changed */
export function dispatchSwitch({ dispatch, clients }, mayChange, changed) {
  const { paused, last_run: last, missing_since: missing, taken_over: takenOver } = dispatch;
  const pending = clients.reduce((sum, client) => sum + client.pending, 0);
  const processing = clients.reduce((sum, client) => sum + client.processing, 0);
  return el("section", { class: `card switch ${paused ? "off" : "on"}`, "aria-label": "Dispatch" },
    el("div", {},
      el("p", { class: "big" }, el("span", { class: "lamp", "aria-hidden": "true" }), el("strong", {}, paused ? "Dispatch is paused" : "Dispatch is running")),
      el("p", { class: "soft" }, paused
        ? ["by ", el("strong", {}, paused.by), " since ", time(paused.at), paused.reason ? `: ${paused.reason}` : ", without a reason"]
        : ["Last run ", last ? [ago(last.at), `, ${plural(last.rows, "row")}`] : "never"]),
      missing && el("p", { class: "bad-text" }, "No dispatch call came since ", time(missing), takenOver ? ": the built-in clock makes the runs" : ""),
      el("p", { class: "soft" }, `${plural(pending, "row")} waiting, ${plural(processing, "row")} under way`)),
    mayChange && el("div", { class: "actions" },
      !paused && el("button", { type: "button", "data-key": "run", onclick: () => run(pending, changed) }, "Run now"),
      paused
        ? el("button", { type: "button", "data-key": "on", class: "main huge", onclick: () => resume(pending, changed) }, "Resume dispatch")
        : el("button", { type: "button", "data-key": "off", class: "grave huge", onclick: () => pause(pending, processing, changed) }, "Pause dispatch")));
}

/** @param {string} reason */
const body = (reason) => (reason ? { reason } : {});

/** @param {number} pending @param {number} processing @param {() => void} changed */
async function pause(pending, processing, changed) {
  const path = "/ops/v1/dispatch/pause";
  const did = await ask({
    title: "Pause dispatch for everybody?",
    does: el("p", {}, `No client's rows will be claimed: ${plural(pending, "row")} will wait. ${plural(processing, "row")} under way will be finished.`),
    verb: "Pause dispatch",
    isGrave: true,
    field: { label: "Why? Clients see it", hint: "For example: vendor maintenance until 15:00" },
    curl: (reason) => curl("POST", path, { body: body(reason), asOperator: true }),
    act: async (reason) => {
      await post(path, body(reason));
      return "Dispatch is paused.";
    },
  });
  if (did) changed();
}

/** @param {number} pending @param {() => void} changed */
async function resume(pending, changed) {
  const path = "/ops/v1/dispatch/resume";
  const did = await ask({
    title: "Resume dispatch?",
    does: el("p", {}, `${plural(pending, "row")} will go on, within every client's limit and every dependency's rate.`),
    verb: "Resume dispatch",
    curl: () => curl("POST", path, { asOperator: true }),
    act: async () => {
      await post(path);
      return "Dispatch is running.";
    },
  });
  if (did) changed();
}

/** @param {number} pending @param {() => void} changed */
async function run(pending, changed) {
  const path = "/ops/v1/dispatch";
  const did = await ask({
    title: "Start a dispatch run now?",
    does: el("p", {}, `Each client gets a new grant, up to its limit, of the ${plural(pending, "row")} that wait. What is left of the last grant is gone.`),
    verb: "Run now",
    curl: () => curl("POST", path, { asOperator: true }),
    command: () => `dripfeed dispatch --url ${quoted(location.origin)}`,
    act: async () => told(await post(path)),
  });
  if (did) changed();
}

/** @param {{ outcome: string, rows?: number, granted?: unknown[] }} answer */
function told({ outcome, rows = 0, granted = [] }) {
  if (outcome === "granted") return `Granted ${plural(rows, "row")} to ${plural(granted.length, "client")}.`;
  if (outcome === "too_early") return "Nothing was granted: the last run is too short a while ago.";
  if (outcome === "already_running") return "Nothing was granted: a run is under way already.";
  return "Nothing was granted: dispatch is paused.";
}
