// @ts-check
// The page starts here: who is signed in, and which view the address means.

import { Problem, del, get, session } from "./api.js";
import { byId, el, show } from "./dom.js";
import { here, match } from "./router.js";
import { linkState, speak } from "./say.js";

/** @import { Who } from "./types.js" */
/**
 * @typedef {object} Visit what a view gets
 * @property {HTMLElement} root where it shows itself
 * @property {Record<string, string>} parts of the address's path
 * @property {URLSearchParams} query of the address
 * @property {Who} who
 * @property {AbortSignal} signal ends with the visit
 * @property {boolean} hasExpired whether somebody was signed in until just now
 * @property {(who: Who) => Promise<void>} signedIn goes on as somebody
 */
/** @typedef {{ view: (visit: Visit) => void | Promise<void> }} ViewModule */

/** Views come when they are needed, so that the first one is there at once.
 * @type {[string, string, () => Promise<ViewModule>][]} */
const VIEWS = [
  ["/", "Batches", () => import("./views/home.js")],
  ["/batches", "Batches", () => import("./views/batches.js")],
  ["/batches/:id", "Batch", () => import("./views/batch.js")],
  ["/batches/:id/rows", "Rows", () => import("./views/rows.js")],
  ["/batches/:id/rows/:row", "Row", () => import("./views/row.js")],
  ["/batches/:id/skipped", "Lines left out", () => import("./views/skipped.js")],
  ["/overview", "Overview", () => import("./views/overview.js")],
  ["/audit", "Audit", () => import("./views/audit.js")],
];

/** @type {Who | null} */
let who = null;
let hasExpired = false;
let visit = new AbortController();

async function start() {
  try {
    who = await get("/session");
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.isPassing) {
      linkState(`${error.message} Trying again.`);
      setTimeout(start, 1_000);
      return;
    }
  }
  linkState(null);
  await open();
}

/** Opens the view that the address means, or the way in. */
async function open() {
  visit.abort();
  visit = new AbortController();
  const { signal } = visit;
  showFrame();
  const { path, query } = here();
  const { load, name, parts } = find(who?.kind === "operator" && path === "/" ? "/overview" : path);
  const root = byId("view");
  /** @type {ViewModule} */
  let module;
  try {
    module = await (who ? load() : import("./views/sign_in.js"));
  } catch {
    // The server was replaced by another version of itself, which has other files.
    if (navigator.onLine && !signal.aborted) linkState("The page could not be loaded. Reload it.");
    return;
  }
  if (signal.aborted) return;
  root.replaceChildren();
  document.title = who ? `${name} · dripfeed` : "Sign in · dripfeed";
  await module.view({ root, parts, query, who: /** @type {Who} */ (who), signal, hasExpired, signedIn });
  if (signal.aborted) return;
  if (!root.contains(document.activeElement) || document.activeElement === root) {
    root.querySelector("h1")?.focus({ preventScroll: true });
  }
  scrollTo(0, 0);
}

/** @param {string} path */
function find(path) {
  for (const [pattern, name, load] of VIEWS) {
    const parts = match(pattern, path);
    if (parts) return { load, name, parts };
  }
  return { load: () => import("./views/nothing.js"), name: "Nothing here", parts: {} };
}

function showFrame() {
  const current = here().path;
  const links = who?.kind === "operator"
    ? [["/overview", "Overview"], ["/batches", "Batches"], ["/audit", "Audit"]]
    : who ? [["/", "Batches"]] : [];
  const isHere = (/** @type {string} */ path) =>
    current === path || (path === "/overview" && current === "/") || current.startsWith(path === "/" ? "/batches" : `${path}/`);
  const views = links.map(([path, name]) =>
    el("a", { href: `#${path}`, "aria-current": isHere(path) ? "page" : null }, name));
  show(byId("nav"), [...views, el("a", { href: "/docs" }, "Documentation")]);
  show(byId("who"), who && [
    el("span", { class: "soft", title: who.kind === "operator" ? `Signed in as an operator (${who.role})` : "Signed in as a client" }, who.name),
    el("button", { type: "button", class: "quiet", onclick: signOut }, "Sign out"),
  ]);
}

async function signOut() {
  try {
    await del("/session");
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.isPassing) return linkState(error.message);
  }
  who = null;
  hasExpired = false;
  location.hash = "#/";
  speak("You are signed out.");
  await open();
}

/** @param {Who} known */
async function signedIn(known) {
  who = known;
  hasExpired = false;
  await open();
}

session.addEventListener("expired", () => {
  if (!who) return;
  who = null;
  hasExpired = true;
  open();
});
addEventListener("hashchange", open);
// The skip link's own address would be taken for a view's.
document.querySelector(".skip")?.addEventListener("click", (event) => {
  event.preventDefault();
  byId("view").focus();
});

start();
