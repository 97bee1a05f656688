// Somebody on call.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { App, OPERATOR, csv, until } from "./app.js";
import { agree, launch, signInAsOperator, visit } from "./browser.js";
import { Downstream } from "./downstream.js";

describe("somebody on call", () => {
  /** @type {App} */ let app;
  /** @type {Downstream} */ let downstream;
  /** @type {import("playwright-core").Browser} */ let browser;
  before(async () => {
    downstream = await Downstream.start();
    app = await App.start({
      downstream: downstream.port, workers: 'claim_ttl = "1s"\nauto_rescue = false',
      more: '[alerts]\ncheck_every = "200ms"\ngate_closed_for = "1s"\ndisk_free_below = "0B"',
    });
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await app?.stop();
    await downstream?.stop();
  });
  const overview = () => app.call("GET", "/ops/v1/overview", { key: OPERATOR });

  /** @param {(page: import("playwright-core").Page) => Promise<void>} act */
  async function onCall(act) {
    const { page, close } = await visit(browser, app);
    await signInAsOperator(page);
    await act(page);
    await close();
  }

  it("turns the one big switch, and sees by whom and why", () => onCall(async (page) => {
    await page.getByText("Dispatch is running").waitFor();
    await page.getByRole("button", { name: "Pause dispatch" }).click();
    await page.getByRole("dialog").getByLabel("Why?").fill("vendor maintenance");
    await agree(page, "Pause dispatch", /0 rows will wait/);
    await page.getByText("Dispatch is paused", { exact: true }).waitFor();
    await page.getByText(/by root since .*: vendor maintenance/).waitFor();
    assert.equal((await overview()).dispatch.paused.reason, "vendor maintenance");
    await page.getByRole("row", { name: /root dispatch\.pause/ }).waitFor();
    await page.getByRole("button", { name: "Resume dispatch" }).click();
    await agree(page, "Resume dispatch");
    await page.getByText("Dispatch is running", { exact: true }).first().waitFor();
    assert.equal((await overview()).dispatch.paused, null);
  }));

  it("changes a client's limit in place, and no other client's", () => onCall(async (page) => {
    await page.getByLabel("Rows a run of acme").fill("25");
    await page.getByRole("row", { name: /^acme/ }).getByRole("button", { name: "Set" }).click();
    await agree(page, "Set 25 rows a run", "It is 1,000 rows a run now");
    await page.getByText("acme gets 25 rows a run.").waitFor();
    const limits = async () => Object.fromEntries((await overview()).clients.map((/** @type {any} */ it) => [it.name, it.rows_per_run]));
    assert.deepEqual(await limits(), { acme: 25, globex: null });
    await page.getByLabel("Rows a run of acme").fill("");
    await page.getByRole("row", { name: /^acme/ }).getByRole("button", { name: "Set" }).click();
    await agree(page, "Back to the default");
    await until("the default again", async () => (await limits()).acme === null);
  }));

  it("changes how fast a dependency is called, and sees its picture", () => onCall(async (page) => {
    const card = page.getByRole("article", { name: "invites" });
    await card.getByRole("img", { name: /Calls a second of invites in the last hour/ }).waitFor();
    await card.getByRole("spinbutton", { name: "Calls a second of invites" }).fill("7");
    await card.getByRole("button", { name: "Change" }).click();
    await agree(page, "Set 7 a second", "from 2,000 to 7 calls a second");
    await card.getByText("limit 7/s").waitFor();
    const rates = (await overview()).dependencies.map((/** @type {any} */ it) => [it.name, it.rate_per_second]);
    assert.deepEqual(Object.fromEntries(rates), { addresses: 2000, invites: 7 });
  }));

  it("starts a run by hand, and reads what it granted", () => onCall(async (page) => {
    await page.getByRole("button", { name: "Run now" }).click();
    await agree(page, "Run now", /Each client gets a new grant/);
    await page.getByText(/^Granted 0 rows to 0 clients\./).waitFor();
  }));

  it("sees which gate is closed, until when and why, and what waits for it", () => onCall(async (page) => {
    downstream.awayFor = 4;
    const { id } = await app.upload(csv(3));
    const card = page.getByRole("article", { name: "addresses" });
    await card.getByText("gate closed").waitFor();
    await card.getByText(/503.*next try/).waitFor();
    await page.getByRole("listitem").filter({ hasText: id }).getByText(/waits: .*addresses/).waitFor();
    const alert = page.getByRole("region", { name: "Alerts" }).getByRole("listitem");
    await alert.getByText("the gate of addresses is closed for more than 1s").waitFor();
    await alert.getByText("dripfeed doctor").waitFor();
    downstream.awayFor = null;
    await card.getByText("open", { exact: true }).waitFor();
    await alert.waitFor({ state: "detached" });
    await app.batch(id, (batch) => batch.status === "completed" && batch.counts.completed === 3);
  }));

  it("looks at what is stuck, and then frees it", () => onCall(async (page) => {
    // A command that dies while it waits for an answer leaves its claim behind.
    await app.call("POST", "/ops/v1/dispatch/pause", { key: OPERATOR, body: "{}" });
    const { id } = await app.upload(csv(2));
    await app.batch(id, (batch) => batch.status === "queued");
    downstream.isSilent = true;
    const calls = downstream.calls;
    const command = app.spawn(["row", "run", `${id}/1`]);
    await until("its request", async () => downstream.calls > calls);
    command.kill("SIGKILL");
    await page.getByText("1 row and 0 batches are held by a claim that has expired.").waitFor();
    await page.getByRole("button", { name: "Look, change nothing" }).click();
    await page.getByRole("group", { name: "What is stuck" }).getByText(`row ${id}/1`).waitFor();
    assert.equal((await app.call("GET", `/v2/batches/${id}`)).counts.processing, 1, "a look changes nothing");
    await page.getByRole("button", { name: "Free them…" }).click();
    await agree(page, "Free 1 row and 0 batches");
    await page.getByText("Freed 1 row and 0 batches.").waitFor();
    await page.getByText("Nothing is stuck.").waitFor();
    assert.equal((await app.call("GET", `/v2/batches/${id}`)).counts.processing, 0);
    downstream.isSilent = false;
    await app.call("POST", "/ops/v1/dispatch/resume", { key: OPERATOR });
    await app.batch(id, (batch) => batch.status === "completed");
  }));
});
