// A line to the server on which what is sent takes its time. The browser's own throttling tells no progress.

import { connect, createServer } from "node:net";

const BYTES_A_SECOND = 2_000_000;

export class SlowLine {
  /** @param {number} port */
  static async to(port) {
    const line = new SlowLine();
    line.server = createServer((near) => {
      const far = connect(port, "127.0.0.1");
      far.pipe(near);
      near.on("data", (piece) => {
        far.write(piece);
        near.pause();
        setTimeout(() => near.resume(), (piece.length / BYTES_A_SECOND) * 1000);
      });
      for (const [one, other] of [[near, far], [far, near]]) {
        one.on("error", () => other.destroy());
        one.on("close", () => other.destroy());
      }
    });
    await new Promise((resolve) => line.server.listen(0, "127.0.0.1", () => resolve(null)));
    line.url = `http://127.0.0.1:${line.server.address().port}`;
    return line;
  }

  stop() {
    return new Promise((resolve) => this.server.close(resolve));
  }
}
