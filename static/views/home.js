// @ts-check
// A client's start: a file to drop, and what became of the ones before it.

import { get } from "../api.js";
import { batchList } from "../batch_list.js";
import { el, show } from "../dom.js";
import { poll } from "../live.js";
import { may } from "../may.js";
import { title } from "../parts.js";
import { uploader } from "../uploader.js";

/** @import { Visit } from "../main.js" */

/** Workflows are settings of the server: they change with a restart. */
const EVERY_MS = 60_000;

/** @param {Visit} visit */
export function view({ root, who, signal }) {
  const { upload: mayUpload, read: mayRead } = may(who);
  const upload = mayUpload && el("section", { class: "card", "aria-labelledby": "upload-title", "data-own": true });
  const batches = el("div", { "data-own": true });
  show(root,
    title("Your batches"),
    upload,
    el("section", { "aria-labelledby": "batches-title" }, el("h2", { id: "batches-title" }, "Batches"),
      mayRead ? batches : el("p", { class: "empty" }, "The key that you signed in with does not show them.")));
  if (mayRead) batchList(batches, { signal, empty: "Nothing yet: your first file's progress will stand here." });
  if (!upload) return;
  let isThere = false;
  poll({
    every: EVERY_MS,
    signal,
    ask: () => (isThere ? Promise.resolve(null) : get("/v2/workflows", signal)),
    use: (answer) => {
      if (!answer) return;
      isThere = true;
      uploader(upload, answer.workflows, signal);
    },
  });
}
