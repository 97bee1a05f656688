// The page's own CSV files: no cell of them is run by a spreadsheet, by the rules that the server has.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { cell, harmless, readAll } from "../../static/csv.js";

/** @type {[string, string][]} */
const EXAMPLES = JSON.parse(readFileSync(new URL("../fixtures/harmless_cells.json", import.meta.url), "utf8"));

describe("a cell of the page's own CSV", () => {
  it("is as harmless as the server's", () => {
    assert.ok(EXAMPLES.length > 30);
    for (const [text, safe] of EXAMPLES) assert.equal(harmless(text), safe, JSON.stringify(text));
  });

  it("is one cell, whatever stands in it", () => {
    const cells = EXAMPLES.map(([text]) => text).filter((text) => !/[\r\n]/.test(text));
    const [record] = readAll(`${cells.map(cell).join(",")}\r\n`, ",");
    assert.deepEqual(record?.cells, cells.map(harmless));
  });
});
