// Somebody who knows people by name: an OpenID Connect provider with a button for each of them.

import { createHash, generateKeyPairSync, randomUUID, sign } from "node:crypto";
import { createServer } from "node:http";

const { privateKey, publicKey } = generateKeyPairSync("ed25519");
/** @param {unknown} value */
const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** @param {object} claims */
function signed(claims) {
  const text = `${encoded({ alg: "EdDSA", kid: "1" })}.${encoded(claims)}`;
  return `${text}.${sign(null, Buffer.from(text), privateKey).toString("base64url")}`;
}

/**
 * Starts it on a free port. `people` are those who may sign in there, with the groups that they are in.
 * @param {Record<string, string[]>} people
 */
export async function startProvider(people) {
  /** What is asked for under each code that was given. @type {Map<string, { name: string, asked: URLSearchParams }>} */
  const given = new Map();
  let issuer = "";

  /** @param {string} name @param {URLSearchParams} asked */
  function back(name, asked) {
    const code = randomUUID();
    given.set(code, { name, asked });
    const to = new URL(asked.get("redirect_uri") ?? "");
    for (const [key, value] of Object.entries({ code, state: asked.get("state") ?? "", iss: issuer })) to.searchParams.set(key, value);
    return to.href;
  }

  /** @param {URLSearchParams} form */
  function token(form) {
    const { name, asked } = given.get(form.get("code") ?? "") ?? {};
    given.delete(form.get("code") ?? "");
    const challenge = createHash("sha256").update(form.get("code_verifier") ?? "").digest("base64url");
    if (!name || !asked || asked.get("code_challenge") !== challenge) return { error: "invalid_grant" };
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: issuer, aud: asked.get("client_id"), sub: `id-of-${name}`, iat: now, exp: now + 60, nonce: asked.get("nonce") };
    const id_token = signed({ ...claims, preferred_username: name, groups: people[name] });
    return { access_token: "unused", token_type: "Bearer", id_token };
  }

  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? "/", issuer);
    /** @param {object} value */
    const json = (value) => response.writeHead("error" in value ? 400 : 200, { "Content-Type": "application/json" }).end(JSON.stringify(value));
    if (url.pathname === "/.well-known/openid-configuration") {
      json({
        issuer, authorization_endpoint: `${issuer}/auth`, token_endpoint: `${issuer}/token`, jwks_uri: `${issuer}/keys`,
        response_types_supported: ["code"], subject_types_supported: ["public"], id_token_signing_alg_values_supported: ["EdDSA"],
      });
    } else if (url.pathname === "/keys") {
      json({ keys: [{ ...publicKey.export({ format: "jwk" }), kid: "1", use: "sig", alg: "EdDSA" }] });
    } else if (url.pathname === "/auth") {
      const ways = Object.keys(people).map((name) => `<p><a href="${back(name, url.searchParams).replaceAll("&", "&amp;")}">Go on as ${name}</a></p>`);
      response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end(`<!doctype html><title>Who are you?</title>${ways.join("")}`);
    } else {
      let body = "";
      for await (const piece of request) body += piece;
      json(token(new URLSearchParams(body)));
    }
  });
  await new Promise((resolve) => { server.listen(0, "127.0.0.1", () => resolve(null)); });
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  issuer = `http://127.0.0.1:${port}`;
  const stop = () => new Promise((resolve) => { server.close(resolve); server.closeAllConnections(); });
  return { issuer, host: `127.0.0.1:${port}`, stop };
}
