// Every screen, every reader: small and large windows, the keyboard alone, a screen reader, dark and light, and how much
// it weighs. The pictures of the README are made here.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { App, OPERATOR, csv, until } from "./app.js";
import { choose, launch, overflow, seriousFaults, signIn, signInAsOperator, visit } from "./browser.js";
import { Downstream } from "./downstream.js";

/** Everything that the first view may weigh. */
const FIRST_VIEW_BYTES = 100_000;
const PHONE = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
const WALL = { viewport: { width: 2560, height: 1300 } };

/** Where pictures of every view go, to be looked at. Those of the README are copied from there: `run --screenshots`. */
const PICTURES = process.env.SCREENSHOTS ?? new URL("../../target/screenshots/", import.meta.url).pathname;

/** @param {import("playwright-core").Page} page @param {string} name */
const picture = (page, name) => page.screenshot({ path: `${PICTURES}/${name}.png` });

describe("the page", () => {
  /** @type {App} */ let app;
  /** @type {Downstream} */ let downstream;
  /** @type {import("playwright-core").Browser} */ let browser;
  /** A batch that has completed, with failures, and one that is under way. */
  let done = "", busy = "";
  before(async () => {
    downstream = await Downstream.start();
    downstream.refused = new Set(["7", "19", "23"]);
    app = await App.start({ downstream: downstream.port });
    browser = await launch();
    done = (await app.uploadFile("spring.csv", csv(60))).id;
    await app.batch(done, (batch) => batch.status === "completed");
    for (const name of ["addresses", "invites"]) {
      await app.call("PATCH", `/ops/v1/dependencies/${name}`, { key: OPERATOR, body: '{"rate_per_second": 4}' });
    }
    busy = (await app.uploadFile("autumn.csv", csv(900))).id;
    await app.batch(busy, (batch) => batch.counts.completed > 0);
  });
  after(async () => {
    await browser?.close();
    await app?.stop();
    await downstream?.stop();
  });

  /** The views, and what tells that each is there. @returns {[string, string, boolean, RegExp][]} */
  const views = () => [
    ["home", "/", false, /^Your batches/],
    ["batch", `/batches/${busy}`, false, /working$/],
    ["failures", `/batches/${done}`, false, /completed with failures$/],
    ["rows", `/batches/${done}/rows`, false, /^Rows/],
    ["row", `/batches/${done}/rows/7`, false, /^Row 7 failed/],
    ["overview", "/overview", true, /^Overview/],
    ["batches", "/batches", true, /^Batches/],
    ["audit", "/audit", true, /^Audit/],
  ];

  /** @param {import("playwright-core").Page} page @param {string} path @param {RegExp} heading */
  async function open(page, path, heading) {
    await page.goto(`${app.url}/#${path}`);
    await page.getByRole("heading", { level: 1, name: heading }).waitFor();
    await page.locator("[aria-busy]").waitFor({ state: "detached" });
    if (path === "/overview") await page.getByRole("group", { name: "Last runs" }).waitFor();
    if (path.includes(done) && !path.includes("rows")) await page.getByRole("heading", { name: "What went wrong" }).waitFor();
    if (path === "/") await page.getByText("Drop a CSV here").waitFor();
  }

  for (const [theme, screen] of /** @type {const} */ ([["light", {}], ["dark", {}], ["light", PHONE], ["dark", PHONE]])) {
    it(`has nothing that axe finds serious, and nothing too wide: ${theme}, ${screen === PHONE ? "360 px" : "1,280 px"}`, async () => {
      for (const asOperator of [false, true]) {
        const { page, close } = await visit(browser, app, { ...screen, colorScheme: theme, reducedMotion: "reduce" });
        if (!asOperator) {
          assert.deepEqual(await seriousFaults(page), [], "sign-in");
          assert.ok(await overflow(page) <= 0);
        }
        await signIn(page, asOperator ? OPERATOR : app.key);
        for (const [name, path, forOperator, heading] of views()) {
          if (forOperator !== asOperator) continue;
          await open(page, path, heading);
          assert.deepEqual(await seriousFaults(page), [], name);
          assert.ok(await overflow(page) <= 0, `${name} is too wide`);
          await picture(page, `${name}-${theme}${screen === PHONE ? "-360" : ""}`);
        }
        await close();
      }
    });
  }

  it("has dialogs that axe finds nothing serious in", async () => {
    for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
      const { page, close } = await visit(browser, app, { colorScheme, reducedMotion: "reduce" });
      await signIn(page, app.key);
      await open(page, `/batches/${done}`, /failures$/);
      await page.getByRole("button", { name: "Retry 3 failed rows" }).click();
      await page.getByRole("dialog").getByText("The same from a shell").click();
      assert.deepEqual(await seriousFaults(page), []);
      await picture(page, `dialog-${colorScheme}`);
      await page.keyboard.press("Escape");
      await page.getByRole("dialog").waitFor({ state: "detached" });
      await page.getByRole("link", { name: "Batches" }).click();
      await choose(page, "people.csv", `${csv(2).replace("first_name", "given name")}`);
      await page.getByText("This file would be refused").waitFor();
      assert.deepEqual(await seriousFaults(page), []);
      await picture(page, `check-${colorScheme}`);
      await close();
    }
  });

  it("fits a wall of 2,560 px", async () => {
    const { page, close } = await visit(browser, app, WALL);
    await signInAsOperator(page);
    await open(page, "/overview", /^Overview/);
    assert.ok(await overflow(page) <= 0);
    const width = await page.locator("main").evaluate((main) => main.getBoundingClientRect().width);
    assert.ok(width <= 1_700, "lines stay short enough to read");
    await close();
  });

  it("leads to the documentation, also whoever is not signed in", async () => {
    const { page, close } = await visit(browser, app);
    await page.getByRole("link", { name: "Documentation" }).click();
    await page.getByRole("link", { name: "security" }).first().click();
    await page.getByRole("heading", { level: 1 }).waitFor();
    assert.equal(new URL(page.url()).pathname, "/docs/security");
    assert.deepEqual(await seriousFaults(page), []);
    await page.getByRole("link", { name: "dripfeed" }).first().click();
    await page.getByLabel("Key").waitFor();
    await close();
  });

  it("is used with the keyboard alone", async () => {
    const { page, close } = await visit(browser, app);
    /** Goes to what has this name, by Tab. @param {string} name */
    const tabTo = async (name) => {
      for (let presses = 0; presses < 60; presses += 1) {
        await page.keyboard.press("Tab");
        const at = await page.evaluate(() => `${document.activeElement?.getAttribute("aria-label") ?? ""}|${document.activeElement?.textContent?.trim()}`);
        if (at.split("|").includes(name)) return;
      }
      assert.fail(`Tab never comes to ${name}`);
    };
    await page.getByLabel("Key").waitFor();
    assert.equal(await page.evaluate(() => document.activeElement?.id), "key", "the field is ready to be typed in");
    await page.keyboard.type(app.key);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name: "Your batches" }).waitFor();
    await open(page, `/batches/${busy}`, /working$/);
    await until("the heading has the focus", () => page.evaluate(() => document.activeElement?.id === "title"));
    await tabTo("Pause");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await until("the focus is back", () => page.evaluate(() => document.activeElement?.textContent === "Pause"));
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: /paused$/ }).waitFor();
    await tabTo("Resume");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: /working$/ }).waitFor();
    await tabTo("Sign out");
    await page.keyboard.press("Enter");
    await page.getByLabel("Key").waitFor();
    await close();
  });

  it("keeps the focus and what is being typed while it brings itself up to date", async () => {
    const { page, close } = await visit(browser, app);
    await signInAsOperator(page);
    const field = page.getByLabel("Rows a run of globex");
    await field.fill("12");
    const seen = await page.getByText(/^As of/).innerText();
    await until("the next look", async () => await page.getByText(/^As of/).innerText() !== seen);
    assert.equal(await field.inputValue(), "12");
    assert.equal(await field.evaluate((input) => input === document.activeElement), true);
    await close();
  });

  for (const [reducedMotion, moves] of /** @type {const} */ ([["no-preference", true], ["reduce", false]])) {
    it(`${moves ? "moves a little" : "keeps still for who asks for it"}`, async () => {
      const { page, close } = await visit(browser, app, { reducedMotion });
      await signInAsOperator(page);
      await page.locator(".bar > span").first().waitFor();
      const seconds = await page.locator(".bar > span").first().evaluate((bar) => getComputedStyle(bar).transitionDuration);
      assert.equal(seconds !== "0s", moves, seconds);
      const names = await page.locator(".lamp").first().evaluate((lamp) => getComputedStyle(lamp).animationName);
      assert.equal(names !== "none", moves, names);
      await close();
    });
  }

  it("tells times in the reader's zone, with UTC at hand", async () => {
    const { page, close } = await visit(browser, app);
    await signInAsOperator(page);
    const time = page.getByText(/^As of/).locator("time");
    const [shown, title, iso] = await time.evaluate((it) => [it.textContent, it.getAttribute("title"), it.getAttribute("datetime")]);
    const berlin = new Date(String(iso)).toLocaleTimeString("en-GB", { timeZone: "Europe/Berlin" });
    assert.equal(shown, berlin);
    assert.match(String(title), /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/);
    await close();
  });

  for (const [who, key] of /** @type {const} */ ([["nobody", null], ["a client", "client"], ["an operator", OPERATOR]])) {
    it(`weighs less than 100 KB at first, for ${who}`, async () => {
      const { page, close } = await visit(browser, app);
      await page.getByLabel("Key").waitFor();
      if (key) {
        await signIn(page, key === "client" ? app.key : key);
        await page.getByText(key === "client" ? "Drop a CSV here" : "Dispatch is running").first().waitFor();
      }
      const bytes = await page.evaluate(() => performance.getEntries().reduce((sum, entry) =>
        sum + (entry instanceof PerformanceResourceTiming ? entry.decodedBodySize : 0), 0));
      console.log(`# first view of ${who}: ${bytes} bytes`);
      assert.ok(bytes > 10_000 && bytes < FIRST_VIEW_BYTES, `${bytes} bytes`);
      await close();
    });
  }

  it("allows nothing that is not its own", async () => {
    const start = await fetch(`${app.url}/`);
    const policy = start.headers.get("content-security-policy") ?? "";
    assert.match(policy, /default-src 'none'/);
    assert.ok(!/unsafe|\*|https?:/.test(policy), policy);
    assert.equal(start.headers.get("x-content-type-options"), "nosniff");
    assert.equal(start.headers.get("referrer-policy"), "no-referrer");
    const html = await start.text();
    assert.ok(!/<script(?![^>]*src=)|<style|\son\w+=|style=/.test(html), "nothing stands within the HTML");
    const etag = start.headers.get("etag") ?? "";
    assert.equal((await fetch(`${app.url}/`, { headers: { "If-None-Match": etag } })).status, 304);
    const script = html.match(/src="(\/static\/[^"]*main\.js)"/)?.[1] ?? "";
    const served = await fetch(`${app.url}${script}`);
    assert.match(served.headers.get("content-type") ?? "", /^text\/javascript/);
    assert.match(served.headers.get("cache-control") ?? "", /immutable/);
    assert.equal((await fetch(`${app.url}/static/0000000000000000/main.js`)).status, 404);
  });
});
