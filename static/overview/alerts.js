// @ts-check
// What is wrong, since when, and what to run next.

import { el } from "../dom.js";
import { ago, plural } from "../format.js";

/** @import { Alert } from "../types.js" */

/** Alerts that are shown; `dripfeed alerts list` has all. */
const SHOWN = 10;

/** @param {Alert[]} alerts */
export function alertNotes(alerts) {
  return [
    el("ul", { class: "alerts" }, alerts.slice(0, SHOWN).map((alert) =>
      el("li", { class: "note bad", "data-key": alert.id },
        el("p", {}, el("strong", {}, alert.summary), " ", el("span", { class: "soft" }, ago(alert.since))),
        el("p", { class: "soft" }, alert.hint),
        alert.what_to_do.length > 0 && el("pre", {}, alert.what_to_do.join("\n"))))),
    alerts.length > SHOWN && el("p", { class: "soft" }, `And ${plural(alerts.length - SHOWN, "more", "more")}: `, el("code", {}, "dripfeed alerts list"))];
}
