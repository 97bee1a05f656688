// @ts-check
// How fast rows end: measured while somebody looks, over the last minute.

const OVER_MS = 60_000;
/** Sooner than this nothing is said. */
const LEAST_MS = 4_000;

export class Pace {
  constructor() {
    /** @type {{ at: number, ended: number }[]} */
    this.samples = [];
  }

  /** @param {number} ended rows that have ended by now */
  add(ended) {
    const now = performance.now();
    // A retry takes rows back: what was measured before it says nothing.
    if (ended < (this.samples.at(-1)?.ended ?? 0)) this.samples = [];
    this.samples.push({ at: now, ended });
    while (this.samples.length > 2 && now - this.samples[1].at > OVER_MS) this.samples.shift();
  }

  /** Rows a minute, or `null` while that is not known. */
  perMinute() {
    const first = this.samples[0];
    const last = this.samples.at(-1);
    const now = performance.now();
    if (!first || !last || now - first.at < LEAST_MS) return null;
    return ((last.ended - first.ended) * 60_000) / (now - first.at);
  }
}
