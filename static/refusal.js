// @ts-check
// A refused file: where what is wrong, with the values from the reader's own copy. The server never sends a cell back.

import { Problem } from "./api.js";
import { cell, rowsOnLines } from "./csv.js";
import { el, put } from "./dom.js";
import { opened } from "./file_check.js";
import { count, plural } from "./format.js";
import { table, td, th } from "./parts.js";
import { toast } from "./say.js";
import { allErrors, save } from "./upload.js";

/** @import { Look } from "./file_check.js" */
/** @import { Finding, Workflow } from "./types.js" */

/** So much of a value is shown. */
const LONGEST_VALUE = 80;

/** What to do, by what is wrong. @type {Record<string, string>} */
const ADVICE = {
  not_utf8: "The file is in another encoding. In Excel choose File, Save as, “CSV UTF-8 (Comma delimited)”.",
  missing_column: "Compare the header with the template: every required column has to be there. If all seem to be missing, the first line is not the header, or the file is not separated by comma, semicolon or tab.",
  unknown_column: "Remove columns that are not in the template, or rename them.",
  wrong_field_count: "A row has more or fewer fields than the header. Often a value holds the delimiter and has no quotes around it: let the spreadsheet save the file as CSV instead of joining cells by hand.",
  unclosed_quote: "A quote is opened and never closed. Look at the line that is named, and double the quotes inside a value.",
  empty_file: "The file is empty. Was it saved?",
  no_rows: "There is only a header.",
  too_many_rows: "Split the file into several.",
};

/**
 * @param {HTMLElement} root
 * @param {{ problem: Problem, file: File, found: Look, workflow: Workflow, signal: AbortSignal, again: () => void }} refused
 */
export async function refusal(root, { problem, file, found, workflow, signal, again }) {
  const errors = problem.body.errors ?? [];
  const total = problem.body.error_count ?? errors.length;
  const codes = new Set(errors.map((error) => error.code));
  const advice = Object.entries(ADVICE).filter(([code]) => codes.has(code)).map(([, text]) => text);
  const values = await valuesOf(file, found, errors, signal);
  if (signal.aborted) return;
  const heading = el("h3", { tabindex: -1 }, `${file.name} was refused: ${plural(total, "error")}`);
  put(root,
    el("div", { class: "note bad" }, heading,
      el("p", {}, "Nothing of it is kept. Correct the file, and upload it again.")),
    advice.length > 0 && el("ul", { class: "advice" }, advice.map((text) => el("li", {}, text))),
    table("Errors in the file",
      [th("Line", "number"), th("Column"), th("Value in your file"), th("What is wrong")],
      errors.map((error, index) => el("tr", {},
        td(count(error.line), "number"), td(error.column ?? "–"), td(valueCell(values[index])), td(error.message)))),
    total > errors.length && el("p", { class: "soft" }, `The first ${count(errors.length)} of ${count(total)} are shown.`),
    el("div", { class: "actions" },
      el("button", { type: "button", onclick: () => download() }, `Download all ${plural(total, "error")} as CSV`),
      el("button", { type: "button", class: "main", onclick: again }, "Choose another file")));
  heading.focus();

  async function download() {
    const name = `${file.name.replace(/\.\w+$/, "")}-errors.csv`;
    // What is here already needs no second journey of the file.
    if (total <= errors.length) return save(new Blob([asCsv(errors)], { type: "text/csv" }), name);
    toast("The file is checked once more, to list every error.");
    try {
      save(await allErrors(workflow.upload_path, file, found.isGzip, signal), name);
    } catch (error) {
      if (error instanceof Problem) toast(error.message, "bad");
      else if (!signal.aborted) throw error;
    }
  }
}

/** The values that are meant, from the local file. @param {File} file @param {Look} found @param {Finding[]} errors @param {AbortSignal} signal */
async function valuesOf(file, found, errors, signal) {
  const lines = new Set(errors.filter((error) => error.column_number !== null).map((error) => error.line));
  if (lines.size === 0) return errors.map(() => undefined);
  try {
    const rows = await rowsOnLines(opened(file, found.isGzip), found.delimiter, lines, signal);
    return errors.map(({ line, column_number: number }) => (number ? rows.get(line)?.[number - 1] : undefined));
  } catch {
    // The file was changed or moved since it was chosen; lines and columns still say where to look.
    return errors.map(() => undefined);
  }
}

/** @param {string | undefined} value */
function valueCell(value) {
  if (value === undefined) return el("span", { class: "soft" }, "–");
  if (value.trim() === "") return el("span", { class: "soft" }, "(empty)");
  return el("code", {}, value.length > LONGEST_VALUE ? `${value.slice(0, LONGEST_VALUE)}…` : value);
}

/** @param {Finding[]} errors */
function asCsv(errors) {
  const lines = errors.map((error) => [error.line, error.column, error.column_number, error.code, error.message].map(cell).join(","));
  return `${["line,column,column_number,code,message", ...lines].join("\r\n")}\r\n`;
}
