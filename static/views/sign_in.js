// @ts-check
// The way in. The key is sent once, and kept nowhere: what stays is a cookie that scripts cannot read.

import { Problem, get, post } from "../api.js";
import { el, put } from "../dom.js";

/** @import { Visit } from "../main.js" */

/** @param {Visit} visit */
export function view({ root, signedIn, hasExpired }) {
  const fault = el("p", { class: "note bad", role: "alert", hidden: true });
  const key = el("input", {
    id: "key", type: "password", required: true, autocomplete: "current-password", autocapitalize: "off", spellcheck: "false",
    "aria-describedby": "key-hint",
  });
  const button = el("button", { class: "main" }, "Sign in");
  const provider = el("p", { hidden: true });
  showProvider(provider);
  put(root,
    el("section", { class: "card narrow" },
      el("h1", { tabindex: -1 }, "Sign in"),
      hasExpired && el("p", { class: "note" }, "Your session has ended. Sign in again to go on where you were."),
      el("form", {
        onsubmit: async (/** @type {Event} */ event) => {
          event.preventDefault();
          button.disabled = true;
          fault.hidden = true;
          try {
            await signedIn(await post("/session", { key: key.value.trim() }));
          } catch (error) {
            if (!(error instanceof Problem)) throw error;
            fault.textContent = error.status === 401
              ? "This key is not known here. Check that it was copied whole, and that it was not rotated."
              : error.message;
            fault.hidden = false;
            button.disabled = false;
            key.select();
          }
        },
      },
      el("label", {}, "Key", key,
        el("small", { id: "key-hint" }, "A client's key, or an operator's token. It is sent once, and not kept in this browser.")),
      fault,
      button),
      provider));
  key.focus();
}

/** Offers the provider that knows people here, where there is one. @param {HTMLElement} place */
async function showProvider(place) {
  try {
    const ways = await get("/session/ways");
    if (!ways.provider) return;
    place.append("or ", el("a", { href: "/session/oidc" }, `sign in with ${ways.provider}`));
    place.hidden = false;
  } catch (error) {
    // A key is a way in all the same.
    if (!(error instanceof Problem)) throw error;
  }
}
