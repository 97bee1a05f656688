// @ts-check
// Values of rows, which are private: masked on the screen until somebody wants to see them. What an operator wants to
// see is masked by the server as well, and the look is written to the audit.

import { ask, curl } from "./dialog.js";
import { el } from "./dom.js";

/** @import { Child } from "./dom.js" */

const MASK = "•••";

/** @param {unknown} value @param {boolean} isShown @returns {Child} */
export function shown(value, isShown) {
  if (value === null || value === undefined || value === "") return el("span", { class: "soft" }, "–");
  if (!isShown) return el("span", { class: "mask", title: "Masked" }, el("span", { "aria-hidden": "true" }, MASK), el("span", { class: "unseen" }, "masked"));
  return typeof value === "string" ? value : JSON.stringify(value);
}

/**
 * Shows or masks values again; nothing for whom the server shows none.
 * @param {{ isShown: boolean, mayReveal: boolean, asOperator: boolean, what: string, path: string, change: (isShown: boolean) => Promise<void> }} options
 */
export function valuesSwitch({ isShown, mayReveal, asOperator, what, path, change }) {
  return mayReveal && el("button", {
    type: "button",
    "aria-pressed": String(isShown),
    onclick: async () => {
      if (isShown || !asOperator) return change(!isShown);
      await ask({
        title: "Show private values?",
        does: el("p", {}, `You will see ${what} in clear. The audit will say that you looked, and when.`),
        verb: "Show, and write it to the audit",
        curl: () => curl("GET", `${path}${path.includes("?") ? "&" : "?"}reveal=true`, { asOperator }),
        act: async () => {
          await change(true);
          return "Your look is in the audit.";
        },
      });
    },
  }, isShown ? "Mask values" : "Show values");
}
