// @ts-check
// Every batch that the reader may see, newest first.

import { batchList } from "../batch_list.js";
import { el, show } from "../dom.js";
import { title } from "../parts.js";

/** @import { Visit } from "../main.js" */

/** @param {Visit} visit */
export function view({ root, signal }) {
  const list = el("div", { "data-own": true });
  show(root, title("Batches"), list);
  batchList(list, { signal, empty: "No client has uploaded anything yet." });
}
