// @ts-check
// What is called, how fast, against which limit, and which gates are closed.

import { patch } from "../api.js";
import { callsChart } from "../chart.js";
import { ask, curl } from "../dialog.js";
import { el } from "../dom.js";
import { ago, count, decimal, plural, time } from "../format.js";
import { pill } from "../parts.js";

/** @import { Dependency } from "../types.js" */

/** @param {Dependency[]} dependencies @param {boolean} mayChange @param {() => void} changed */
export function dependencyCards(dependencies, mayChange, changed) {
  return el("div", { class: "cards" }, dependencies.map((dependency) => card(dependency, mayChange, changed)));
}

/** @param {Dependency} dependency @param {boolean} mayChange @param {() => void} changed */
function card(dependency, mayChange, changed) {
  const { name, gate } = dependency;
  return el("article", { class: "card", "data-key": name, "aria-label": name },
    el("div", { class: "between" }, el("h3", {}, name), gate.open ? pill("completed", "open") : pill("failed", "gate closed")),
    !gate.open && el("p", { class: "note wait" }, gate.reason ?? "closed", gate.until && [", next try ", time(gate.until), " (", ago(gate.until), ")"]),
    callsChart(dependency),
    el("p", { class: "soft" },
      el("strong", {}, decimal(dependency.calls_last_minute / 60)), ` calls a second in the last minute, of at most `,
      el("strong", {}, decimal(dependency.rate_per_second)), `. ${plural(dependency.in_flight, "call")} of at most ${count(dependency.concurrency)} under way.`),
    mayChange && el("form", { class: "inline", onsubmit: (/** @type {any} */ event) => setRate(event, dependency, changed) },
      el("label", { class: "inline" }, "Calls a second",
        el("input", { name: "rate", type: "number", min: 0.01, step: "any", value: dependency.rate_per_second, required: true,
          "aria-label": `Calls a second of ${name}` })),
      el("button", { class: "small" }, "Change")));
}

/** @param {any} event @param {Dependency} dependency @param {() => void} changed */
async function setRate(event, { name, rate_per_second: now, calls_last_minute: calls }, changed) {
  event.preventDefault();
  const rate = Number(new FormData(event.target).get("rate"));
  const path = `/ops/v1/dependencies/${encodeURIComponent(name)}`;
  const did = await ask({
    title: `Call ${name} ${decimal(rate)} times a second?`,
    does: el("p", {}, `Its limit goes from ${decimal(now)} to ${decimal(rate)} calls a second from the next call on, and stays so after a restart. In the last minute it had ${plural(calls, "call")}.`),
    verb: `Set ${decimal(rate)} a second`,
    curl: () => curl("PATCH", path, { body: { rate_per_second: rate }, asOperator: true }),
    act: async () => {
      await patch(path, { rate_per_second: rate });
      return `${name} is called at most ${decimal(rate)} times a second.`;
    },
  });
  if (did) changed();
}
