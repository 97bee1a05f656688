// Who is signed in, until when, and what stays of it; and a server that goes away in between.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { App, csv, until } from "./app.js";
import { choose, launch, signIn, visit } from "./browser.js";
import { startProvider } from "./provider.js";

describe("a session", () => {
  /** @type {App} */ let app;
  /** @type {import("playwright-core").Browser} */ let browser;
  before(async () => {
    app = await App.start({ dependency: "rate_per_second = 20\nburst = 2\n" });
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await app?.stop();
  });

  it("refuses a wrong key, keeps no key where scripts or addresses could show it, and ends with a sign-out", async () => {
    const { page, context, close } = await visit(browser, app);
    await page.getByLabel("Key").fill("dfk_wrong");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("This key is not known here.").waitFor();
    await signIn(page, app.key);
    const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href]));
    assert.ok(!kept.includes(app.key), kept);
    assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]), [0, 0, ""]);
    const [cookie] = await context.cookies();
    assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, "Strict"]);
    assert.ok(!cookie.value.includes(app.key));
    await page.getByText("Drop a CSV here").waitFor();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Key").waitFor();
    assert.equal((await fetch(`${app.url}/session`, { headers: { Cookie: `${cookie.name}=${cookie.value}` } })).status, 401);
    await page.reload();
    await page.getByLabel("Key").waitFor();
    await close();
  });

  it("that has expired asks for the key and goes on at the same place", async () => {
    const brief = await App.start({ access: 'session_ttl = "8s"' });
    const { id } = await brief.upload(csv(2));
    const { page, close } = await visit(browser, brief);
    await signIn(page, brief.key);
    await page.goto(`${brief.url}/#/batches/${id}/rows/2`);
    await page.getByRole("heading", { name: /^Row 2/ }).waitFor();
    await page.getByText("Your session has ended.").waitFor();
    await signIn(page, brief.key);
    await page.getByRole("heading", { name: /^Row 2/ }).waitFor();
    await close();
    await brief.stop();
  });

  it("is of no use to another site", async () => {
    const { page, context, close } = await visit(browser, app);
    await signIn(page, app.key);
    const [cookie] = await context.cookies();
    const { id } = await app.upload(csv(1));
    const headers = { Cookie: `${cookie.name}=${cookie.value}` };
    for (const more of [{}, { "X-Dripfeed": "page" }, { "X-Dripfeed": "page", Origin: "https://elsewhere.example" }, { Origin: app.url }]) {
      const answer = await fetch(`${app.url}/v2/batches/${id}/pause`, { method: "POST", headers: { ...headers, ...more } });
      assert.equal(answer.status, 403, JSON.stringify(more));
    }
    await close();
  });

  it("lives through a restart of the server in the middle of a batch: the page picks up again", async () => {
    const { page, close } = await visit(browser, app);
    await signIn(page, app.key);
    await choose(page, "long.csv", csv(150));
    await page.getByRole("button", { name: "Upload long.csv" }).click();
    await page.getByRole("heading", { name: /^long\.csv/ }).waitFor();
    await page.getByText(/^[1-9]\d* of 150 rows/).waitFor();
    await app.kill();
    await page.getByText("The server does not answer. Trying again; nothing is lost.").waitFor();
    await app.serve();
    await page.getByRole("heading", { name: "long.csv completed" }).waitFor();
    await page.getByText("150 of 150 rows").waitFor();
    await until("the line is gone", async () => !(await page.locator("#link").isVisible()));
    await close();
  });
});

describe("a provider who knows people", () => {
  /** @type {App} */ let app;
  /** @type {Awaited<ReturnType<typeof startProvider>>} */ let provider;
  /** @type {import("playwright-core").Browser} */ let browser;
  before(async () => {
    provider = await startProvider({ ada: ["ops"], bob: ["staff"], mallory: ["guests"] });
    const more = `[access.oidc]\nissuer = "${provider.issuer}"\nclient_id = "dripfeed"\nclient_secret = "of-a-test"\nroles = { operator = ["ops"], viewer = ["staff"] }`;
    app = await App.start({ more });
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await app?.stop();
    await provider?.stop();
  });

  /** Somebody who signs in there. @param {string} name */
  async function come(name) {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${app.url}/`);
    await page.getByRole("link", { name: `sign in with ${provider.host}` }).click();
    await page.getByRole("link", { name: `Go on as ${name}` }).click();
    return { page, context };
  }

  it("lets in by a click whom a group gives a role, under their own name, until they sign out", async () => {
    const { page, context } = await come("ada");
    await page.getByRole("button", { name: "Sign out" }).waitFor();
    await page.getByText("ada", { exact: false }).first().waitFor();
    await page.getByRole("heading", { name: "Dependencies" }).waitFor();
    const { entries } = await app.call("GET", "/ops/v1/audit", { key: "operator-token-0123456789" });
    const opened = entries.find((/** @type {{ action: string }} */ entry) => entry.action === "session.open");
    assert.match(opened.who, /ada/);
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Key").waitFor();
    await page.reload();
    await page.getByLabel("Key").waitFor();
    await context.close();
  });

  it("tells somebody in no such group why they are not let in, on a page", async () => {
    const { page, context } = await come("mallory");
    await page.getByText("none of your groups may do anything here").waitFor();
    assert.equal((await page.request.get(`${app.url}/session`)).status(), 401);
    await context.close();
  });

  it("that is away leaves the way in by a key, and says so", async () => {
    const { page, context } = await come("bob");
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Key").waitFor();
    await provider.stop();
    await app.kill();
    await app.serve();
    await page.goto(`${app.url}/`);
    await page.getByRole("link", { name: `sign in with ${provider.host}` }).click();
    await page.getByText("The provider cannot be asked who you are").waitFor();
    await page.goto(`${app.url}/`);
    await signIn(page, app.key);
    await context.close();
  });
});
