// @ts-check
// The way of a file: chosen, looked at, sent, and accepted or refused.

import { Problem } from "./api.js";
import { el, put } from "./dom.js";
import { bytes, count, duration, plural, share } from "./format.js";
import { look } from "./file_check.js";
import { faultNote, link, table, td, th } from "./parts.js";
import { address, go } from "./router.js";
import { speak, toast } from "./say.js";
import { refusal } from "./refusal.js";
import { newKey, send } from "./upload.js";

/** @import { Look } from "./file_check.js" */
/** @import { Workflow } from "./types.js" */

/** @param {HTMLElement} root @param {Workflow[]} workflows @param {AbortSignal} signal */
export function uploader(root, workflows, signal) {
  let workflow = workflows[0];
  if (!workflow) return put(root, el("p", {}, "No workflow takes files here. The operator can set one up."));
  const input = el("input", { type: "file", id: "file", accept: ".csv,.tsv,.txt,.gz,text/csv", class: "unseen" });
  const under = el("div", { id: "verdict", "data-own": true });
  input.addEventListener("change", () => {
    const file = input.files?.[0];
    input.value = "";
    if (file) choose(file);
  });
  const frame = () => put(root,
    el("h2", { id: "upload-title" }, "Upload a CSV"),
    workflows.length > 1 && el("label", {}, "What the rows are for", el("select", {
      onchange: (/** @type {any} */ event) => {
        workflow = workflows.find((it) => it.name === event.target.value) ?? workflow;
        under.replaceChildren();
        frame();
      },
    }, workflows.map(({ name }) => el("option", { value: name }, name)))),
    zone(),
    el("p", { class: "soft columns" }, "Columns: ",
      workflow.columns.map((column, index) => [index > 0 && ", ", column.required ? column.name : el("span", {}, column.name, " (optional)")]),
      `. Up to ${plural(workflow.limits.max_rows, "row")} and ${bytes(workflow.limits.max_bytes)}.`),
    under);
  frame();

  function zone() {
    const over = (/** @type {boolean} */ is) => (/** @type {any} */ event) => {
      event.preventDefault();
      event.currentTarget.classList.toggle("over", is);
    };
    return el("div", {
      class: "zone",
      ondragover: over(true),
      ondragleave: over(false),
      ondrop: (/** @type {any} */ event) => {
        over(false)(event);
        const file = event.dataTransfer?.files[0];
        if (file) choose(file);
      },
    },
    el("p", {}, el("strong", {}, "Drop a CSV here"), " or"),
    el("label", { class: "button main", for: "file" }, "Choose a file"),
    input,
    el("p", {}, el("a", { href: workflow.template, download: `${workflow.name}.csv` }, "Download a template")));
  }

  /** @param {File} file */
  async function choose(file) {
    const found = await look(file, workflow);
    if (signal.aborted) return;
    if ("fatal" in found) {
      return put(under, faultNote(`${file.name}: ${found.fatal}`), el("p", {}, found.advice));
    }
    showLook(file, found);
  }

  /** @param {File} file @param {Look} found */
  function showLook(file, found) {
    const isGood = found.faults.length === 0;
    const upload = el("button", { type: "button", class: isGood ? "main" : "", onclick: () => transfer(file, found, newKey()) },
      isGood ? `Upload ${file.name}` : "Send it anyway");
    put(under,
      el("h3", {}, file.name, " ", el("small", { class: "soft" }, `${bytes(file.size)}, separated by ${found.delimiterName}${found.isGzip ? ", gzip" : ""}`)),
      isGood
        ? el("p", { class: "note good" }, "The header and the first rows look right. The whole file is checked when it is sent.")
        : el("div", { class: "note bad", role: "alert" },
            el("p", {}, "This file would be refused:"), el("ul", {}, found.faults.map((fault) => el("li", {}, fault)))),
      preview(found),
      el("div", { class: "actions" },
        el("button", { type: "button", onclick: () => { put(under); input.focus(); } }, "Another file"), upload));
    (isGood ? upload : under.querySelector("button"))?.focus();
    if (isGood) speak("The file looks right.");
  }

  /** @param {File} file @param {Look} found @param {string} key @param {boolean} [allowDuplicate] */
  async function transfer(file, found, key, allowDuplicate) {
    const stop = new AbortController();
    signal.addEventListener("abort", () => stop.abort());
    const told = el("p", { class: "soft" }, "Starting…");
    const progress = el("progress", { max: file.size, value: 0, "aria-label": `Upload of ${file.name}` });
    const cancel = el("button", { type: "button", onclick: () => stop.abort() }, "Cancel the upload");
    put(under, el("h3", {}, `Uploading ${file.name}`), progress, told, el("div", { class: "actions" }, cancel));
    cancel.focus();
    try {
      const batch = await send(workflow.upload_path, file, {
        isGzip: found.isGzip,
        key,
        allowDuplicate,
        signal: stop.signal,
        progress: ({ sent, total, perSecond, secondsLeft }) => {
          progress.max = total;
          progress.value = sent;
          told.textContent = sent >= total
            ? "Sent. The server checks the last rows…"
            : `${share(sent, total)} · ${bytes(sent)} of ${bytes(total)} · ${bytes(perSecond)}/s`
              + (secondsLeft === null ? "" : ` · ${duration(secondsLeft)} left`);
        },
      });
      toast(`Accepted: ${plural(batch.counts.total, "row")}.`);
      go(`/batches/${batch.id}`);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem) return failed(error, file, found, key);
      if (!stop.signal.aborted) throw error;
      toast("The upload was cancelled. Nothing of it is kept.");
      showLook(file, found);
    }
  }

  /** @param {Problem} problem @param {File} file @param {Look} found @param {string} key */
  function failed(problem, file, found, key) {
    if (problem.code === "invalid_file") return refusal(under, { problem, file, found, workflow, signal, again: () => { put(under); input.focus(); } });
    const batch = problem.body.batch;
    const id = typeof batch === "string" ? batch : batch?.id;
    const isSame = problem.code === "duplicate_file";
    put(under,
      faultNote(isSame ? "This very file was uploaded already." : problem.message),
      el("div", { class: "actions" },
        isSame && id && link(address(`/batches/${id}`), "See what became of it"),
        isSame
          ? el("button", { type: "button", onclick: () => transfer(file, found, newKey(), true) }, "Upload it once more")
          : el("button", { type: "button", class: "main", onclick: () => transfer(file, found, key) }, "Try again")));
    under.querySelector("button")?.focus();
  }
}

/** The header and the first rows, with what is wrong marked. @param {Look} found */
function preview({ header, rows }) {
  const marks = { known: "", ours: "passed over", unknown: "unknown", duplicate: "twice" };
  const head = header.map(({ name, state }) =>
    el("th", { scope: "col", class: state }, name.trim() || "(no name)", marks[state] && el("small", {}, marks[state])));
  const body = rows.map(({ line, cells, faults }) => el("tr", {}, td(count(line), "number soft"),
    header.map((_, index) => td([cells[index] ?? "", faults[index] && el("small", { class: "bad-text" }, faults[index])],
      faults[index] ? "wrong" : ""))));
  return table("First rows of the file", [th("Line", "number"), ...head], body, "preview");
}
