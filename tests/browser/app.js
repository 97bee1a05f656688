// The real binary over a temporary folder, with a simulator of its own: what the page talks to.

import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const BINARY = process.env.DRIPFEED_BIN ?? new URL("../../target/debug/dripfeed", import.meta.url).pathname;
export const OPERATOR = "operator-token-0123456789";
const KEYS = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/** No state that a test waits for takes longer than this, on the slowest machine. */
export const DEADLINE_MS = 60_000;

export class App {
  /** @param {{ simulator?: string[], dispatch?: string, dependency?: string, workers?: string, access?: string, more?: string, downstream?: number }} [setup] */
  static async start(setup = {}) {
    const app = new App();
    app.setup = setup;
    app.folder = mkdtempSync(join(tmpdir(), "dripfeed-page-"));
    app.port = await freePort();
    app.downstreamPort = setup.downstream ?? await freePort();
    app.url = `http://127.0.0.1:${app.port}`;
    app.configure();
    writeFileSync(join(app.folder, "keys"), `${KEYS}\n`, { mode: 0o600 });
    app.key = app.addClient("acme");
    app.otherKey = app.addClient("globex");
    if (!setup.downstream) app.simulator = app.spawn(["simulator", "--listen", `127.0.0.1:${app.downstreamPort}`, ...setup.simulator ?? []]);
    await app.serve();
    return app;
  }

  configure() {
    const dependency = this.setup.dependency ?? "rate_per_second = 2000\nburst = 50\n";
    writeFileSync(join(this.folder, "dripfeed.toml"), `
[server]
listen = "127.0.0.1:${this.port}"
[storage]
data_dir = "${this.folder}/data"
[encryption]
key_file = "${this.folder}/keys"
[access]
operator_token = "${OPERATOR}"
${this.setup.access ?? ""}
[dispatch]
${this.setup.dispatch ?? 'every = "1s"\nmin_interval = "0s"\nrows_per_client_per_run = 1000'}
[workers]
under_way = 64
${this.setup.workers ?? ""}
[dependencies.addresses]
base_url = "http://127.0.0.1:${this.downstreamPort}"
${dependency}
[dependencies.invites]
base_url = "http://127.0.0.1:${this.downstreamPort}"
${dependency}
${this.setup.more ?? ""}
`);
  }

  /** @param {string} name */
  addClient(name) {
    return JSON.parse(this.command("client", "add", name, "--json")).key;
  }

  /** Runs a command of the binary to its end. @param {...string} args */
  command(...args) {
    const ran = spawnSync(BINARY, ["--config", join(this.folder, "dripfeed.toml"), ...args], { encoding: "utf8" });
    if (ran.status !== 0) throw new Error(`dripfeed ${args.join(" ")}: ${ran.stdout}${ran.stderr}`);
    return ran.stdout;
  }

  /** @param {string[]} args */
  spawn(args) {
    const child = spawn(BINARY, ["--config", join(this.folder, "dripfeed.toml"), ...args], { stdio: ["ignore", "pipe", "pipe"] });
    child.said = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => { child.said += text; });
    return child;
  }

  async serve() {
    const server = this.spawn(["serve"]);
    this.server = server;
    await until("the server is ready", async () => {
      if (server.exitCode !== null) throw new Error(`the server ended: ${server.said}`);
      return (await fetch(`${this.url}/readyz`)).ok;
    });
  }

  /** Ends the server without a word. */
  async kill() {
    await ended(this.server, "SIGKILL");
  }

  async stop() {
    await ended(this.server, "SIGKILL");
    await ended(this.simulator, "SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** @param {string} method @param {string} path @param {{ key?: string, body?: string, type?: string }} [options] */
  async call(method, path, { key = this.key, body, type = "application/json" } = {}) {
    const headers = { Authorization: `Bearer ${key}`, ...(body === undefined ? {} : { "Content-Type": type }) };
    const response = await fetch(`${this.url}${path}`, { method, headers, body });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  /** A batch that is uploaded without the page. @param {string} csv @param {string} [key] */
  upload(csv, key = this.key) {
    return this.call("POST", "/v2/client/users/batch/invite", { key, body: csv, type: "text/csv" });
  }

  /** The same with a file's name. @param {string} name @param {string} csv @param {string} [key] */
  async uploadFile(name, csv, key = this.key) {
    const body = new FormData();
    body.append("file", new Blob([csv], { type: "text/csv" }), name);
    const answer = await fetch(`${this.url}/v2/client/users/batch/invite`, { method: "POST", headers: { Authorization: `Bearer ${key}` }, body });
    return answer.json();
  }

  /** @param {string} id @param {(batch: any) => boolean} isSo */
  batch(id, isSo) {
    return until(`the batch ${id}`, async () => {
      const batch = await this.call("GET", `/v2/batches/${id}`);
      return isSo(batch) && batch;
    });
  }
}

/** @param {import("node:child_process").ChildProcess | undefined} child @param {NodeJS.Signals} signal */
function ended(child, signal) {
  if (!child || child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    child.once("exit", resolve);
    child.kill(signal);
  });
}

/** Asks until the answer is yes, and gives it. @param {string} what @param {() => Promise<any>} ask */
export async function until(what, ask) {
  const deadline = Date.now() + DEADLINE_MS;
  let last;
  while (Date.now() < deadline) {
    try {
      const answer = await ask();
      if (answer) return answer;
    } catch (error) {
      if (/ended/.test(String(error))) throw error;
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`waited in vain: ${what}`, { cause: last });
}

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
      server.close(() => resolve(port));
    });
  });
}

export const HEADER = "email,first_name,last_name,phone,postcode,house_number";
let people = 0;

/** So many good rows, none of them ever seen before. @param {number} rows @param {(row: number) => string} [line] */
export function csv(rows, line = (row) => {
  people += 1;
  return `person${people}@example.org,Ada,Lovelace,,SW1A 1AA,${row}`;
}) {
  return `${HEADER}\n${Array.from({ length: rows }, (_, index) => line(index + 1)).join("\n")}\n`;
}

/** @param {string} path */
export const textOf = (path) => readFileSync(path, "utf8");
