// A real Chromium, and what a person does in it.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import { DEADLINE_MS, OPERATOR } from "./app.js";

/** @import { Browser, BrowserContextOptions, Page } from "playwright-core" */

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const PATH = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find((path) => existsSync(path));

/** @returns {Promise<Browser>} */
export const launch = () => chromium.launch({ executablePath: PATH, headless: true, args: FLAGS });

/**
 * A page of its own profile. It fails its test when a script of the page throws, when the policy refuses something, or
 * when anything is asked of another host.
 * @param {Browser} browser @param {{ url: string }} app @param {BrowserContextOptions & { watch?: (page: Page) => void }} [options]
 */
export async function visit(browser, app, { watch, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, locale: "en-GB", timezoneId: "Europe/Berlin", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  /** @type {string[]} */
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error.stack)));
  page.on("console", (message) => { if (/Content Security Policy|Refused to/.test(message.text())) faults.push(message.text()); });
  page.on("request", (request) => { if (!/^(blob:|data:)/.test(request.url()) && new URL(request.url()).origin !== app.url) faults.push(`asked ${request.url()}`); });
  if (process.env.PAGE_FROM_DISK) await fromDisk(context, app);
  watch?.(page);
  await page.goto(`${app.url}/`);
  const close = async () => {
    await context.close();
    assert.deepEqual(faults, []);
  };
  return { page, context, close };
}

/**
 * The page's files as they are on disk, so that a change of the page is seen without a build of the binary.
 * @param {import("playwright-core").BrowserContext} context @param {{ url: string }} app
 */
async function fromDisk(context, app) {
  const folder = new URL("../../static/", import.meta.url).pathname;
  await context.route(`${app.url}/static/**`, (route) =>
    route.fulfill({ path: folder + new URL(route.request().url()).pathname.split("/").slice(3).join("/") }));
  await context.route(`${app.url}/`, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, path: `${folder}index.html` });
  });
}

/** @param {Page} page @param {string} key */
export async function signIn(page, key) {
  await page.getByLabel("Key").fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("button", { name: "Sign out" }).waitFor();
  // The form stays until the first view is there.
  await page.getByLabel("Key", { exact: true }).waitFor({ state: "detached" });
}

/** @param {Page} page */
export const signInAsOperator = (page) => signIn(page, OPERATOR);

/** Chooses a file as a person does. @param {Page} page @param {string} name @param {string | Buffer} content */
export async function choose(page, name, content) {
  await page.getByText("Drop a CSV here").waitFor();
  await page.setInputFiles("#file", { name, mimeType: "text/csv", buffer: Buffer.from(content) });
}

/** Answers the dialog, once it is read. @param {Page} page @param {string | RegExp} verb @param {(string | RegExp)[]} says */
export async function agree(page, verb, ...says) {
  const dialog = page.getByRole("dialog");
  for (const text of says) await dialog.getByText(text).first().waitFor();
  await dialog.getByText("The same from a shell").click();
  assert.match(await dialog.locator("code").first().innerText(), /^curl .*127\.0\.0\.1/);
  await dialog.getByRole("button", { name: verb }).click();
  await dialog.waitFor({ state: "detached" });
}

/** @param {Page} page @param {() => Promise<unknown>} act */
export async function downloaded(page, act) {
  const [download] = await Promise.all([page.waitForEvent("download"), act()]);
  const stream = await download.createReadStream();
  let text = "";
  for await (const piece of stream) text += piece;
  return { name: download.suggestedFilename(), text };
}

/** What axe has to say that is serious. @param {Page} page */
export async function seriousFaults(page) {
  // Evaluated by the debugger, which the page's policy does not bind.
  await page.evaluate(`(async () => { if (!window.axe) { ${await source()} } })()`);
  const { violations, passes } = await page.evaluate("axe.run(document, { resultTypes: ['violations', 'passes'] })");
  assert.ok(passes.length > 10, "axe looked at the page");
  return violations
    .filter((/** @type {any} */ it) => it.impact === "serious" || it.impact === "critical")
    .map((/** @type {any} */ it) => `${it.id}: ${it.nodes.map((/** @type {any} */ node) => `${node.target} ${node.failureSummary}`).join(" | ")}`);
}

let axe = "";
async function source() {
  if (!axe) axe = (await import("node:fs")).readFileSync(AXE, "utf8");
  return axe;
}

/** Whether the view is wider than the window. @param {Page} page */
export const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
