// @ts-check
// Calls a second of the last hour, against the limit, as a picture.

import { el, svg } from "./dom.js";
import { decimal } from "./format.js";

/** @import { Dependency } from "./types.js" */

const HEIGHT = 40;
/** From this share of the limit on a minute is shown in another colour. */
const NEAR = 0.9;

/** @param {Dependency} dependency */
export function callsChart({ name, rate_per_second: limit, calls_by_minute: minutes, calls_last_minute: last }) {
  // The minute that is not over yet has too few; the last sixty seconds stand for it.
  const rates = [...minutes.slice(0, -1), last].map((calls) => calls / 60);
  const highest = Math.max(...rates, limit) * 1.1;
  const y = (/** @type {number} */ rate) => HEIGHT - (rate / highest) * HEIGHT;
  const told = `Calls a second of ${name} in the last hour: ${decimal(last / 60)} now, at most ${decimal(Math.max(...rates))}, limit ${decimal(limit)}`;
  return el("figure", { class: "chart" },
    svg("svg", { viewBox: `0 0 ${rates.length} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": told },
      ...rates.map((rate, index) => svg("rect", {
        x: index + 0.1, width: 0.8, y: y(rate), height: HEIGHT - y(rate), class: rate > limit * NEAR ? "near" : "",
      }, svg("title", {}, `${rates.length - 1 - index} min ago: ${decimal(rate)} a second`))),
      svg("line", { x1: 0, x2: rates.length, y1: y(limit), y2: y(limit), class: "limit", "vector-effect": "non-scaling-stroke" })),
    el("figcaption", {}, el("span", {}, "an hour ago"), el("span", {}, `limit ${decimal(limit)}/s`), el("span", {}, "now")));
}
