// @ts-check
// An address that means nothing.

import { el, show } from "../dom.js";
import { link, title } from "../parts.js";

/** @import { Visit } from "../main.js" */

/** @param {Visit} visit */
export function view({ root }) {
  show(root, title("Nothing is here"), el("p", {}, "This address leads nowhere. ", link("#/", "Go to the start")));
}
