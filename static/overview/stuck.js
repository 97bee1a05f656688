// @ts-check
// Claims that expired: first what would happen, then that it happens.

import { Problem, get, post } from "../api.js";
import { ask, curl } from "../dialog.js";
import { el } from "../dom.js";
import { ago, plural } from "../format.js";
import { faultNote, link, table, td, th } from "../parts.js";
import { address } from "../router.js";

/** @import { Overview, Stuck } from "../types.js" */

/** Entries that are shown. */
const SHOWN = 20;

/** @param {boolean} mayChange @param {() => void} changed */
export function stuckPanel(mayChange, changed) {
  /** @type {Stuck | null} */
  let found = null;
  /** @type {string | null} */
  let fault = null;

  async function look() {
    try {
      found = await get("/ops/v1/stuck");
      fault = null;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      fault = error.message;
    }
    changed();
  }

  /** @param {Stuck} stuck */
  async function free(stuck) {
    const what = `${plural(stuck.rows.length, "row")} and ${plural(stuck.batches.length, "batch", "batches")}`;
    const path = "/ops/v1/stuck/reconcile";
    const did = await ask({
      title: `Free ${what}?`,
      does: el("p", {}, `Rows become pending again and are due at once; batches are read on from where they stopped. A request that had left is repeated only where that is safe.`),
      verb: `Free ${what}`,
      curl: () => curl("POST", path, { body: { apply: true }, asOperator: true }),
      command: () => "dripfeed stuck --apply",
      act: async () => {
        const { applied } = await post(path, { apply: true });
        return `Freed ${plural(applied?.rows ?? 0, "row")} and ${plural(applied?.batches ?? 0, "batch", "batches")}.`;
      },
    });
    if (!did) return;
    found = null;
    changed();
  }

  return {
    /** @param {Overview["stuck"]} counts */
    draw(counts) {
      const some = counts.rows + counts.batches > 0;
      return el("div", { class: "stuck" },
        el("p", {}, some
          ? el("strong", { class: "bad-text" }, `${plural(counts.rows, "row")} and ${plural(counts.batches, "batch", "batches")} are held by a claim that has expired.`)
          : "Nothing is stuck."),
        fault && faultNote(fault),
        found && list(found),
        el("div", { class: "actions start" },
          el("button", { type: "button", "data-key": "look", onclick: look }, "Look, change nothing"),
          mayChange && found && found.rows.length + found.batches.length > 0
            && el("button", { type: "button", "data-key": "free", class: "main", onclick: () => found && free(found) }, "Free them…")));
    },
  };
}

/** @param {Stuck} stuck */
function list({ rows, batches }) {
  const all = [
    ...batches.map(({ batch, expired_at: at, becomes, extracted }) => ({ name: batch, href: address(`/batches/${batch}`), at, becomes: `${becomes}, read on behind row ${extracted}` })),
    ...rows.map(({ row, expired_at: at, becomes }) => {
      const [batch, number] = row.split("/");
      return { name: `row ${row}`, href: address(`/batches/${batch}/rows/${number}`), at, becomes };
    }),
  ];
  if (all.length === 0) return el("p", { class: "note good" }, "A look just now found nothing that is stuck.");
  return [
    table("What is stuck", [th("What"), th("Claim expired"), th("Becomes")],
      all.slice(0, SHOWN).map(({ name, href, at, becomes }) => el("tr", { "data-key": name },
        td(link(href, el("code", {}, name))), td(ago(at)), td(becomes)))),
    all.length > SHOWN && el("p", { class: "soft" }, `And ${plural(all.length - SHOWN, "more", "more")}.`)];
}
