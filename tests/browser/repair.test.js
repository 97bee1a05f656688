// What went wrong, and trying it again.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { App, csv } from "./app.js";
import { agree, downloaded, launch, signIn, visit } from "./browser.js";
import { Downstream } from "./downstream.js";

describe("rows that failed", () => {
  /** @type {App} */ let app;
  /** @type {Downstream} */ let downstream;
  /** @type {import("playwright-core").Browser} */ let browser;
  before(async () => {
    downstream = await Downstream.start();
    app = await App.start({ downstream: downstream.port });
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await app?.stop();
    await downstream?.stop();
  });

  it("are grouped by what went wrong, shown with the answer, downloaded, and retried", async () => {
    downstream.refused = new Set(["3", "5"]);
    const other = await app.upload(csv(5), app.otherKey);
    const { id } = await app.upload(csv(8));
    await app.batch(id, (batch) => batch.status === "completed" && batch.counts.failed === 2);
    const { page, close } = await visit(browser, app);
    await signIn(page, app.key);
    await page.goto(`${app.url}/#/batches/${id}`);
    const groups = page.getByRole("region", { name: "What went wrong" });
    await groups.getByRole("cell", { name: "address-links", exact: true }).waitFor();
    await groups.getByText("HTTP 422").waitFor();
    const failed = await downloaded(page, () => page.getByRole("link", { name: "Failed rows (2)" }).click());
    assert.equal(failed.text.trim().split(/\r?\n/).length, 3);
    await groups.getByRole("link", { name: "rejected" }).click();
    await page.getByRole("link", { name: "5", exact: true }).click();
    await page.getByRole("heading", { name: "Row 5 failed" }).waitFor();
    await page.getByText("The answer's body").click();
    assert.equal(await page.getByText("there is no house").count(), 0, "masked at first");
    await page.getByRole("button", { name: "Show values" }).click();
    await page.getByText("there is no house <b>5</b>").waitFor();
    downstream.refused = new Set(["5"]);
    await page.getByRole("link", { name: "The batch" }).click();
    await page.getByRole("button", { name: "Retry rejected at address-links" }).click();
    await agree(page, "Retry 2 rows", "2 rows that failed with rejected at address-links will be pending again.");
    await page.getByText(/rows? (is|are) pending again/).first().waitFor();
    await app.batch(id, (batch) => batch.status === "completed" && batch.counts.failed === 1);
    downstream.refused = new Set();
    await page.getByRole("button", { name: "Retry 1 failed row" }).click();
    await agree(page, "Retry 1 row", "1 row will be pending again");
    await page.getByRole("heading", { name: /completed$/ }).waitFor();
    await page.getByText("8 of 8 rows").waitFor();
    assert.equal((await app.batch(id, (batch) => batch.status === "completed" && batch.counts.completed === 8)).counts.failed, 0);
    const untouched = await app.call("GET", `/v2/batches/${other.id}`, { key: app.otherKey });
    assert.equal(untouched.counts.failed, 2, "another client's failures stay as they are");
    await close();
  });

  it("are found by an operator, whose look at values is asked for and audited", async () => {
    downstream.refused = new Set(["2"]);
    const { id } = await app.upload(csv(2));
    await app.batch(id, (batch) => batch.status === "completed");
    const { page, close } = await visit(browser, app);
    await signIn(page, "operator-token-0123456789");
    await page.goto(`${app.url}/#/batches/${id}/rows/2`);
    await page.getByRole("heading", { name: "Row 2 failed" }).waitFor();
    await page.getByRole("button", { name: "Show values" }).click();
    await agree(page, "Show, and write it to the audit", "The audit will say that you looked");
    await page.getByText("@example.org").waitFor();
    await page.getByRole("link", { name: "Audit" }).click();
    await page.getByRole("row", { name: new RegExp(`root row\\.reveal ${id}/2`) }).waitFor();
    await close();
  });
});
