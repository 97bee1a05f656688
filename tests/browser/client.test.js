// Somebody with a spreadsheet.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { App, HEADER, csv, until } from "./app.js";
import { agree, choose, downloaded, launch, signIn, visit } from "./browser.js";
import { SlowLine } from "./slow_line.js";

describe("somebody with a spreadsheet", () => {
  /** @type {App} */ let app;
  /** @type {import("playwright-core").Browser} */ let browser;
  before(async () => {
    app = await App.start();
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await app?.stop();
  });

  /** @param {(page: import("playwright-core").Page) => Promise<void>} act */
  async function asClient(act, options = {}) {
    const { page, close } = await visit(browser, app, options);
    await signIn(page, app.key);
    await act(page);
    await close();
  }

  it("uploads a good file, follows it to its end, and takes the results away", () => asClient(async (page) => {
    const file = csv(40);
    await choose(page, "people.csv", file);
    await page.getByText("The header and the first rows look right").waitFor();
    assert.equal(await page.getByRole("group", { name: "First rows" }).getByRole("row").count(), 6, "a header and five rows");
    await page.getByRole("button", { name: "Upload people.csv" }).click();
    await page.getByRole("heading", { name: /^people\.csv/ }).waitFor();
    await page.getByRole("heading", { name: "people.csv completed" }).waitFor();
    await page.getByText("100%").waitFor();
    assert.match(page.url(), /#\/batches\/bat_\w+$/);
    const all = await downloaded(page, () => page.getByRole("link", { name: "All results" }).click());
    assert.equal(all.text.trim().split(/\r?\n/).length, 41);
    assert.match(all.text, /^\uFEFF?email,.*_check_id/);
    const completed = await downloaded(page, () => page.getByRole("link", { name: "Completed rows (40)" }).click());
    assert.equal(completed.text.trim().split(/\r?\n/).length, 41);
    // A colleague with the same address sees the same.
    const { page: colleague, close } = await visit(browser, app);
    await signIn(colleague, app.key);
    await colleague.goto(page.url());
    await colleague.getByRole("heading", { name: "people.csv completed" }).waitFor();
    await close();
    // Somebody else's client does not.
    const { page: stranger, close: leave } = await visit(browser, app);
    await signIn(stranger, app.otherKey);
    await stranger.goto(page.url());
    await stranger.getByText("There is no such batch, or it is not yours to see.").waitFor();
    await leave();
  }));

  it("takes a file that is dropped on it", () => asClient(async (page) => {
    await page.getByText("Drop a CSV here").waitFor();
    const dropped = await page.evaluateHandle((text) => {
      const files = new DataTransfer();
      files.items.add(new File([text], "dropped.csv", { type: "text/csv" }));
      return files;
    }, csv(3));
    await page.dispatchEvent(".zone", "drop", { dataTransfer: dropped });
    await page.getByRole("button", { name: "Upload dropped.csv" }).click();
    await page.getByRole("heading", { name: "dropped.csv completed" }).waitFor();
  }));

  it("shows what is wrong with a refused file, with values that only the browser knows", () => asClient(async (page) => {
    const lines = Array.from({ length: 150 }, (_, index) => (index === 0 ? `"two\nlines",Ada,Lovelace,,SW1A 1AA,1` : `wrong${index}@,Ada,Lovelace,,SW1A 1AA,1`));
    const seen = [];
    page.on("response", async (response) => { if (response.status() === 422) seen.push(await response.text()); });
    await choose(page, "bad.csv", `${HEADER}\n${lines.join("\n")}\n`);
    await page.getByText("This file would be refused").waitFor();
    await page.getByRole("button", { name: "Send it anyway" }).click();
    await page.getByRole("heading", { name: "bad.csv was refused: 150 errors" }).waitFor();
    const table = page.getByRole("group", { name: "Errors in the file" });
    assert.equal(await table.getByRole("row").count(), 101);
    assert.equal(await table.getByRole("row").nth(3).getByRole("cell").nth(0).innerText(), "5", "the first row took two lines");
    assert.equal(await table.getByRole("row").nth(3).getByRole("cell").nth(2).innerText(), "wrong2@");
    await until("the answer", async () => seen.length > 0);
    assert.ok(!seen.join("").includes("wrong2@"), "the server sends no value back");
    const all = await downloaded(page, () => page.getByRole("button", { name: "Download all 150 errors as CSV" }).click());
    assert.equal(all.name, "bad-errors.csv");
    assert.equal(all.text.trim().split(/\r?\n/).length, 151);
    assert.deepEqual((await app.call("GET", "/v2/batches")).batches.filter((/** @type {any} */ it) => it.file.name === "bad.csv"), []);
  }));

  it("recognises a spreadsheet, UTF-16, another encoding, and a wrong header before anything is sent", () => asClient(async (page) => {
    let sent = 0;
    page.on("request", (request) => { if (request.method() === "POST") sent += 1; });
    await choose(page, "people.xlsx", Buffer.from([0x50, 0x4b, 3, 4, 1, 2, 3]));
    await page.getByText("This is a spreadsheet").waitFor();
    await page.getByText("CSV UTF-8 (Comma delimited)").waitFor();
    await choose(page, "people.csv", Buffer.from(`\uFEFF${csv(1)}`, "utf16le"));
    await page.getByText("This file is UTF-16").waitFor();
    await choose(page, "people.csv", Buffer.from(csv(1).replace("Ada", "Zo\u00eb"), "latin1"));
    await page.getByText("The file is not UTF-8").waitFor();
    await choose(page, "people.csv", "email;first_name;surname;email;postcode\na@example.org;Ada;L;b@example.org;SW1A 1AA\n");
    await page.getByText("separated by semicolon").waitFor();
    await page.getByText("Missing: “last_name”, “house_number”.").waitFor();
    await page.getByText("Not known here: “surname”.").waitFor();
    await page.getByText("There twice: “email”.").waitFor();
    assert.equal(sent, 0);
  }));

  it("takes a template that it would take back", () => asClient(async (page) => {
    const template = await downloaded(page, () => page.getByRole("link", { name: "Download a template" }).click());
    await choose(page, "template.csv", template.text);
    await page.getByText("The header and the first rows look right").waitFor();
  }));

  it("pauses and resumes, and tells of the same file once more", () => asClient(async (page) => {
    app.command("client", "pause", "acme");
    const file = csv(30);
    await choose(page, "twice.csv", file);
    await page.getByRole("button", { name: "Upload twice.csv" }).click();
    await page.getByText(/^Waiting:/).waitFor();
    await page.getByRole("button", { name: "Pause" }).click();
    await agree(page, "Pause", "30 rows will wait until it is resumed.");
    await page.getByRole("heading", { name: "twice.csv paused" }).waitFor();
    const [, id] = page.url().match(/(bat_\w+)/) ?? [];
    assert.equal((await app.call("GET", `/v2/batches/${id}`)).paused, true);
    await page.getByRole("link", { name: "Batches" }).click();
    await choose(page, "twice.csv", file);
    await page.getByRole("button", { name: "Upload twice.csv" }).click();
    await page.getByText("This very file was uploaded already.").waitFor();
    await page.getByRole("link", { name: "See what became of it" }).click();
    await page.getByRole("button", { name: "Resume" }).click();
    await agree(page, "Resume", "30 rows will go on");
    app.command("client", "resume", "acme");
    await page.getByRole("heading", { name: "twice.csv completed" }).waitFor();
  }));

  it("cancels and deletes a batch for good", () => asClient(async (page) => {
    app.command("client", "pause", "acme");
    const { id } = await app.upload(csv(7));
    await page.goto(`${app.url}/#/batches/${id}`);
    await page.getByRole("button", { name: "Cancel the batch" }).click();
    await agree(page, "Cancel 7 rows", "7 rows will never be worked on.");
    app.command("client", "resume", "acme");
    await page.getByRole("button", { name: "Delete the batch" }).click();
    await agree(page, "Delete 7 rows", /7 rows and their results will be gone/);
    await page.getByText(/Deleted: 7 rows/).waitFor();
    const answer = await fetch(`${app.url}/v2/batches/${id}`, { headers: { Authorization: `Bearer ${app.key}` } });
    assert.equal(answer.status, 404);
  }));

  it("shows markup in a file as the text that it is", () => asClient(async (page) => {
    const evil = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>";
    page.on("dialog", () => assert.fail("a script of the file ran"));
    await choose(page, `${evil}.csv`.replaceAll("/", ""), csv(2, (row) => `evil${row}@example.org,${evil},Lovelace,,SW1A 1AA,${row}`));
    await page.getByRole("cell", { name: evil }).first().waitFor();
    await page.getByRole("button", { name: /^Upload/ }).click();
    await page.getByRole("heading", { name: /<script>.*completed/ }).waitFor();
    await page.goto(`${page.url()}/rows`);
    await page.getByRole("button", { name: "Show values" }).click();
    await page.getByRole("cell", { name: evil }).first().waitFor();
    assert.equal(await page.locator("main script, main img").count(), 0);
    assert.notEqual(await page.title(), "taken");
  }));

  it("masks values until they are wanted, and pages and filters rows", () => asClient(async (page) => {
    const { id } = await app.upload(csv(120));
    await app.batch(id, (batch) => batch.status === "completed");
    await page.goto(`${app.url}/#/batches/${id}/rows`);
    const table = page.getByRole("group", { name: "Rows" });
    await table.getByText("masked").first().waitFor();
    assert.equal(await page.getByText("@example.org").count(), 0);
    assert.equal(await table.getByRole("row").count(), 51);
    await page.getByRole("button", { name: "Show values" }).click();
    await table.getByText("@example.org").first().waitFor();
    await page.getByRole("link", { name: "Next" }).click();
    await table.getByRole("link", { name: "51", exact: true }).waitFor();
    await page.getByRole("link", { name: "failed 0" }).click();
    await page.getByText("No row is like that.").waitFor();
    await page.getByLabel("Row", { exact: true }).fill("77");
    await page.getByRole("button", { name: "Open" }).click();
    await page.getByRole("heading", { name: "Row 77 completed" }).waitFor();
    await page.getByText("invite-create").waitFor();
    assert.equal(await page.getByText(/1 request · HTTP 20[01]/).count(), 3);
  }));

  it("tells how far an upload is, how fast and for how long, and can be cancelled", async () => {
    const slow = await SlowLine.to(app.port);
    const { page, close } = await visit(browser, slow);
    await signIn(page, app.key);
    await choose(page, "slow.csv", csv(400_000));
    await page.getByRole("button", { name: "Upload slow.csv" }).click();
    await page.getByText(/^\d+% · [\d.,]+ .?B of [\d.,]+ MB · [\d.,]+ .?B\/s · \d+ (s|min) left$/).waitFor();
    assert.ok(await page.getByRole("progressbar").evaluate((bar) => /** @type {HTMLProgressElement} */ (bar).position > 0));
    await page.getByRole("button", { name: "Cancel the upload" }).click();
    await page.getByText("The upload was cancelled.").waitFor();
    await page.getByRole("button", { name: "Upload slow.csv" }).waitFor();
    await close();
    await slow.stop();
    assert.ok(!(await app.call("GET", "/v2/batches")).batches.some((/** @type {any} */ it) => it.file.name === "slow.csv"));
  });

  it("is told by events, and asks where none come", async () => {
    for (const hasEvents of [true, false]) {
      app.command("client", "pause", "acme");
      const { id } = await app.upload(csv(5));
      const { page, close } = await visit(browser, app);
      let events = 0;
      await page.route("**/events", (route) => {
        events += 1;
        return hasEvents ? route.continue() : route.abort();
      });
      await signIn(page, app.key);
      await page.goto(`${app.url}/#/batches/${id}`);
      await page.getByText(/^Waiting:/).waitFor();
      await until("events are asked for", async () => events > 0);
      app.command("client", "resume", "acme");
      await page.getByText("5 of 5 rows").waitFor();
      await close();
    }
  });
});
