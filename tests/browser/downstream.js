// The three downstream calls, as a test wants them: refusing some people, or never answering.

import { createServer } from "node:http";

export class Downstream {
  static async start() {
    const downstream = new Downstream();
    /** House numbers that are refused with 422. @type {Set<string>} */
    downstream.refused = new Set();
    downstream.isSilent = false;
    /** Answers 503, and to come again in so many seconds. @type {number | null} */
    downstream.awayFor = null;
    downstream.calls = 0;
    downstream.server = createServer(async (request, response) => {
      let body = "";
      for await (const piece of request) body += piece;
      downstream.calls += 1;
      if (downstream.isSilent) return;
      if (downstream.awayFor !== null) {
        response.writeHead(503, { "Retry-After": String(downstream.awayFor) });
        return response.end();
      }
      const answer = (/** @type {number} */ status, /** @type {unknown} */ json) => {
        response.writeHead(status, { "Content-Type": "application/json" });
        response.end(JSON.stringify(json));
      };
      if (request.url?.startsWith("/addresses")) return answer(200, { addresses: [{ id: "adr_1" }] });
      if (request.url === "/invites") return answer(201, { check_id: `chk_${downstream.calls}` });
      const { house_number: number } = JSON.parse(body);
      if (downstream.refused.has(number)) return answer(422, { why: `there is no house <b>${number}</b>` });
      answer(200, { link: "/addresses/1" });
    });
    await new Promise((resolve) => downstream.server.listen(0, "127.0.0.1", () => resolve(null)));
    downstream.port = downstream.server.address().port;
    return downstream;
  }

  stop() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
