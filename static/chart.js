// @ts-check
// Calls a second of the last hour, against the limit, as a picture.

import { el, svg } from "./dom.js";
import { decimal } from "./format.js";

/** @import { Dependency } from "./types.js" */

const MINUTES = 60;
const HEIGHT = 40;

/** @param {Dependency} dependency */
export function callsChart({ name, rate_per_second: limit, calls_by_minute: minutes, calls_last_minute: last }) {
  const rates = padded(minutes ?? [last]).map((calls) => calls / 60);
  const highest = Math.max(...rates, limit) * 1.1;
  const y = (/** @type {number} */ rate) => HEIGHT - (rate / highest) * HEIGHT;
  const told = `Calls a second of ${name} in the last hour: ${decimal(rates.at(-1) ?? 0)} now, at most ${decimal(Math.max(...rates))}, limit ${decimal(limit)}`;
  return el("figure", { class: "chart" },
    svg("svg", { viewBox: `0 0 ${MINUTES} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": told },
      ...rates.map((rate, index) => svg("rect", {
        x: index + 0.1, width: 0.8, y: y(rate), height: HEIGHT - y(rate), class: rate > limit * 0.9 ? "near" : "",
      }, svg("title", {}, `${MINUTES - 1 - index} min ago: ${decimal(rate)} a second`))),
      svg("line", { x1: 0, x2: MINUTES, y1: y(limit), y2: y(limit), class: "limit", "vector-effect": "non-scaling-stroke" })),
    el("figcaption", {}, el("span", {}, "an hour ago"), el("span", {}, `limit ${decimal(limit)}/s`), el("span", {}, "now")));
}

/** @param {number[]} minutes */
function padded(minutes) {
  const known = minutes.slice(-MINUTES);
  return [...Array(MINUTES - known.length).fill(0), ...known];
}
