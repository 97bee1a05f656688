// @ts-check
// A look at a chosen file before anything is sent: what kind of file it is, its header and its first rows. The server's
// check of the whole file decides; this one saves the way there.

import { readAll } from "./csv.js";

/** @import { Column, Workflow } from "./types.js" */
/** @typedef {{ name: string, state: "known" | "unknown" | "duplicate" | "ours", column?: Column }} HeaderCell */
/** @typedef {{ fatal: string, advice: string }} Unusable */
/**
 * @typedef {object} Look
 * @property {string} delimiter
 * @property {string} delimiterName
 * @property {boolean} isGzip
 * @property {HeaderCell[]} header
 * @property {Column[]} missing
 * @property {{ line: number, cells: string[], faults: (string | null)[] }[]} rows
 * @property {string[]} faults sentences about the header and the first rows
 */

/** So much of a file is looked at. */
const LOOKED_AT_BYTES = 64 * 1024;
/** So many rows are shown. */
const ROWS_SHOWN = 5;
/** So many are checked. */
const ROWS_CHECKED = 100;

const DELIMITERS = /** @type {const} */ ([["comma", ","], ["semicolon", ";"], ["tab", "\t"]]);

const SAVE_AS_CSV = "In Excel choose File, Save as, and the type “CSV UTF-8 (Comma delimited)”. In Numbers or LibreOffice "
  + "export as CSV with the encoding UTF-8.";

/** @param {Blob} file @param {Workflow} workflow @returns {Promise<Look | Unusable>} */
export async function look(file, workflow) {
  if (file.size === 0) return { fatal: "The file is empty.", advice: "Was it saved? Choose it again once it holds rows." };
  const first = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  const unusable = byFirstBytes(first);
  if (unusable) return unusable;
  const isGzip = first[0] === 0x1f && first[1] === 0x8b;
  const start = await read(isGzip ? inflated(file) : file.stream(), LOOKED_AT_BYTES);
  if (!start) return { fatal: "The file says that it is gzip, and cannot be unpacked.", advice: "Unpack it, and choose the CSV." };
  const text = decode(start.bytes, start.isWhole);
  if (text === null) {
    return {
      fatal: "The file is not UTF-8: letters like é or ü would arrive broken.",
      advice: SAVE_AS_CSV,
    };
  }
  return judge(text, start.isWhole, isGzip, workflow);
}

/** @param {Uint8Array} bytes @returns {Unusable | null} */
function byFirstBytes(bytes) {
  const begins = (/** @type {number[]} */ ...wanted) => wanted.every((byte, index) => bytes[index] === byte);
  if (begins(0x50, 0x4b, 0x03, 0x04) || begins(0xd0, 0xcf, 0x11, 0xe0)) {
    return { fatal: "This is a spreadsheet (or a zip file), not a CSV.", advice: SAVE_AS_CSV };
  }
  if (begins(0xff, 0xfe) || begins(0xfe, 0xff)) {
    return { fatal: "This file is UTF-16, which Excel calls “Unicode text”.", advice: SAVE_AS_CSV };
  }
  if (begins(0x25, 0x50, 0x44, 0x46)) return { fatal: "This is a PDF, not a CSV.", advice: SAVE_AS_CSV };
  return null;
}

/** @param {Blob} file */
const inflated = (file) => /** @type {ReadableStream<Uint8Array>} */ (
  file.stream().pipeThrough(/** @type {any} */ (new DecompressionStream("gzip"))));

/** A file as its text, unpacked where it is packed. @param {Blob} file @param {boolean} isGzip */
export const opened = (file, isGzip) => (isGzip ? inflated(file) : file.stream());

/** @param {ReadableStream<Uint8Array>} stream @param {number} most */
async function read(stream, most) {
  const reader = stream.getReader();
  const pieces = [];
  let size = 0;
  let isWhole = false;
  try {
    while (size < most && !isWhole) {
      const { done, value } = await reader.read();
      isWhole = done;
      if (value) {
        pieces.push(value);
        size += value.length;
      }
    }
    await reader.cancel();
  } catch {
    return null;
  }
  const bytes = new Uint8Array(await new Blob(/** @type {any} */ (pieces)).arrayBuffer());
  return { bytes: bytes.subarray(0, most), isWhole: isWhole && size <= most };
}

/** @param {Uint8Array} bytes @param {boolean} isWhole */
function decode(bytes, isWhole) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: !isWhole });
  } catch {
    return null;
  }
}

/** @param {string} name */
const fold = (name) => name.trim().toLowerCase();

/** @param {string} name @param {Workflow} workflow */
function find(name, workflow) {
  const wanted = fold(name);
  return workflow.columns.find((column) => [column.name, ...column.aliases ?? []].some((known) => fold(known) === wanted));
}

/**
 * @param {string} text @param {boolean} isWhole @param {boolean} isGzip @param {Workflow} workflow
 * @returns {Look}
 */
function judge(text, isWhole, isGzip, workflow) {
  const tries = DELIMITERS.map(([name, delimiter]) => {
    const records = readAll(text, delimiter);
    const known = records[0]?.cells.filter((cell) => find(cell, workflow)).length ?? 0;
    return { name, delimiter, records, known };
  });
  const best = tries.reduce((best, next) => (next.known > best.known ? next : best));
  // The last record may be cut off.
  const records = isWhole || best.records.length < 2 ? best.records : best.records.slice(0, -1);
  const header = headerOf(records[0]?.cells ?? [], workflow);
  const missing = workflow.columns.filter((column) => column.required && !header.some((cell) => cell.column === column));
  const rows = records.slice(1, 1 + ROWS_CHECKED).map(({ line, cells }) => ({ line, cells, faults: faultsOf(cells, header) }));
  return {
    delimiter: best.delimiter,
    delimiterName: best.name,
    isGzip,
    header,
    missing,
    rows: rows.slice(0, ROWS_SHOWN),
    faults: sentences(header, missing, rows, isWhole, best.known),
  };
}

/** @param {string[]} names @param {Workflow} workflow @returns {HeaderCell[]} */
function headerOf(names, workflow) {
  const seen = new Set();
  return names.map((name) => {
    const column = find(name, workflow);
    const key = column?.name ?? fold(name);
    const isSecond = seen.has(key);
    seen.add(key);
    if (isSecond) return { name, state: "duplicate", column };
    if (column) return { name, state: "known", column };
    const isOurs = name.trim().startsWith("_") || workflow.extra_columns === "keep";
    return { name, state: isOurs ? "ours" : "unknown" };
  });
}

/** @param {string[]} cells @param {HeaderCell[]} header @returns {(string | null)[]} */
function faultsOf(cells, header) {
  return header.map(({ column }, index) => {
    const value = cells[index];
    if (!column) return null;
    if (value === undefined || value.trim() === "") return column.required ? "missing" : null;
    if (column.type === "email" && !/^[^\s@]+@[^\s@]+$/.test(value)) return "not an e-mail address";
    if (column.max_length && [...value].length > column.max_length) return "too long";
    return null;
  });
}

/**
 * @param {HeaderCell[]} header @param {Column[]} missing @param {{ line: number, cells: string[], faults: (string | null)[] }[]} rows
 * @param {boolean} isWhole @param {number} known
 */
function sentences(header, missing, rows, isWhole, known) {
  const names = (/** @type {{ name: string }[]} */ cells) => cells.map((cell) => `“${cell.name.trim() || "(no name)"}”`).join(", ");
  const said = [];
  const unknown = header.filter((cell) => cell.state === "unknown");
  const duplicate = header.filter((cell) => cell.state === "duplicate");
  if (known === 0) said.push("The first line names none of the columns. Is the header missing, or separated by something else than comma, semicolon or tab?");
  if (missing.length) said.push(`Missing: ${names(missing)}.`);
  if (unknown.length) said.push(`Not known here: ${names(unknown)}. Remove or rename.`);
  if (duplicate.length) said.push(`There twice: ${names(duplicate)}.`);
  if (rows.length === 0 && isWhole) said.push("There is no row below the header.");
  for (const { line, cells, faults } of rows) {
    if (said.length >= 8) break;
    if (cells.length !== header.length) said.push(`Line ${line} has ${cells.length} fields, the header ${header.length}.`);
    else {
      const at = faults.findIndex((fault) => fault !== null);
      if (at >= 0) said.push(`Line ${line}, “${header[at].name.trim()}”: ${faults[at]}.`);
    }
  }
  return said;
}
