// @ts-check
// CSV as dripfeed reads it: quotes as in RFC 4180, lines that end in CR, LF or both, blank lines passed over, and a row
// known by the line that it starts on.

/** @typedef {{ line: number, cells: string[] }} CsvRecord */

const [QUOTE, CR, LF] = [34, 13, 10];

/** Reads records piece by piece. */
export class CsvReader {
  /**
   * @param {string} delimiter
   * @param {(record: CsvRecord) => void} take
   * @param {(line: number) => boolean} [wanted] whether a row that starts on this line is worth the cells
   */
  constructor(delimiter, take, wanted = () => true) {
    this.delimiter = delimiter.charCodeAt(0);
    this.take = take;
    this.wanted = wanted;
    this.line = 1;
    this.start = 1;
    /** @type {string[]} */
    this.cells = [];
    this.cell = "";
    this.isInQuotes = false;
    this.isAfterQuote = false;
    this.hasContent = false;
    this.isKept = wanted(1);
    this.lastWasCr = false;
  }

  /** @param {string} text */
  push(text) {
    let from = 0;
    for (let at = 0; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      const isSecondHalf = code === LF && this.lastWasCr;
      this.lastWasCr = code === CR;
      if (isSecondHalf) {
        if (!this.isInQuotes) from = at + 1;
        continue;
      }
      const endsLine = code === CR || code === LF;
      if (endsLine) this.line += 1;
      if (this.isInQuotes) {
        if (code !== QUOTE) continue;
        this.#keep(text, from, at);
        from = at + 1;
        this.isInQuotes = false;
        this.isAfterQuote = true;
      } else if (code === QUOTE && (this.isAfterQuote || this.#isCellEmpty(from, at))) {
        // A second quote right behind one stands for a quote.
        if (this.isAfterQuote && this.isKept) this.cell += '"';
        from = at + 1;
        this.isInQuotes = true;
        this.isAfterQuote = false;
        this.hasContent = true;
      } else if (code === this.delimiter) {
        this.#keep(text, from, at);
        from = at + 1;
        this.#endCell();
        this.hasContent = true;
      } else if (endsLine) {
        this.#keep(text, from, at);
        from = at + 1;
        this.#endRecord();
      } else {
        this.isAfterQuote = false;
        this.hasContent = true;
      }
    }
    this.#keep(text, from, text.length);
  }

  end() {
    if (this.hasContent) this.#endRecord();
  }

  /** @param {number} from @param {number} at */
  #isCellEmpty(from, at) {
    return from === at && this.cell === "";
  }

  /** @param {string} text @param {number} from @param {number} to */
  #keep(text, from, to) {
    if (this.isKept && to > from) this.cell += text.slice(from, to);
  }

  #endCell() {
    if (this.isKept) this.cells.push(this.cell);
    this.cell = "";
    this.isAfterQuote = false;
  }

  #endRecord() {
    this.#endCell();
    if (this.hasContent && this.isKept) this.take({ line: this.start, cells: this.cells });
    this.cells = [];
    this.hasContent = false;
    this.start = this.line;
    this.isKept = this.wanted(this.line);
  }
}

/** The records of a short text. @param {string} text @param {string} delimiter @returns {CsvRecord[]} */
export function readAll(text, delimiter) {
  /** @type {CsvRecord[]} */
  const records = [];
  const reader = new CsvReader(delimiter, (record) => records.push(record));
  reader.push(text);
  reader.end();
  return records;
}

/**
 * The rows that start on these lines, from a file that may be large: it is read piece by piece, and no further than
 * it has to be.
 * @param {ReadableStream<Uint8Array>} stream
 * @param {string} delimiter
 * @param {Set<number>} lines
 * @param {AbortSignal} signal
 * @returns {Promise<Map<number, string[]>>}
 */
export async function rowsOnLines(stream, delimiter, lines, signal) {
  const found = new Map();
  const last = Math.max(...lines);
  const csv = new CsvReader(delimiter, ({ line, cells }) => found.set(line, cells), (line) => lines.has(line));
  const text = new TextDecoder();
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (signal.aborted || done || csv.start > last) break;
    csv.push(text.decode(value, { stream: true }));
  }
  await reader.cancel();
  csv.end();
  return found;
}

// What the server does with a cell that a spreadsheet would run, see `src/model/safe_cell`; a test holds both to the same
// examples. A `'` goes in front of each sign that begins a formula, wherever somebody's separator could cut it free.
const BEGINS_FORMULA = /^[=+\-@＝＋－＠﹦﹢﹣﹫]/u;
const BEGINS_BADLY = /^[=+\-@＝＋－＠﹦﹢﹣﹫\t\r\n\v\f\u0085\u2028\u2029']/u;
const SEPARATES = /[,;\t|:^~"\r\n\v\f\u0085\u2028\u2029]/u;
const PASSED_OVER = /[\s\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}]/u;

/** @param {string} text */
export function harmless(text) {
  let out = BEGINS_BADLY.test(text) ? "'" : "";
  /** @type {"beginning" | "behind space" | "within"} */
  let place = "beginning";
  const signs = [...text];
  signs.forEach((sign, at) => {
    const next = signs[at + 1] ?? "";
    if (at > 0 && place !== "within" && asksForMark(sign, next, place === "behind space")) out += "'";
    out += sign;
    if (SEPARATES.test(sign)) place = "beginning";
    else if (!PASSED_OVER.test(sign)) place = "within";
    else if (place === "within") place = "behind space";
  });
  return out;
}

/** @param {string} sign @param {string} next @param {boolean} isBehindSpace */
function asksForMark(sign, next, isBehindSpace) {
  if (sign === "'") return next === "'" || BEGINS_FORMULA.test(next);
  return BEGINS_FORMULA.test(sign) && !(isBehindSpace && /^[+-]$/.test(sign) && next === " ");
}

/** A cell of a CSV file of ours. @param {unknown} value */
export function cell(value) {
  const text = harmless(String(value ?? ""));
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
