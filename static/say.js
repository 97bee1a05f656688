// @ts-check
// What the page tells beside its views: what just happened, and that the server is away.

import { byId, el } from "./dom.js";

/** So long a message stays. */
const TOAST_MS = 8_000;

/** What was done, for the eye and for a screen reader. @param {string} text @param {"good" | "bad"} [kind] */
export function toast(text, kind = "good") {
  const item = el("p", { class: `toast ${kind}` }, text);
  item.append(el("button", { type: "button", class: "quiet", "aria-label": "Dismiss", onclick: () => item.remove() }, "✕"));
  byId("toasts").append(item);
  setTimeout(() => item.remove(), TOAST_MS);
}

/** For a screen reader alone. @param {string} text */
export function speak(text) {
  byId("spoken").textContent = text;
}

/** Says that the server is away, or `null` that it is back. @param {string | null} text */
export function linkState(text) {
  const line = byId("link");
  if (line.textContent !== (text ?? "")) line.textContent = text ?? "";
  line.hidden = text === null;
}
