// @ts-check
// Numbers and times in the reader's own locale; UTC is in the title of every time.

import { el } from "./dom.js";

const numbers = new Intl.NumberFormat();
const oneDigit = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const percents = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 0 });
const timeOfDay = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayAndTime = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit",
});
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });

/** @param {number} value */
export const count = (value) => numbers.format(value);

/** At most one digit behind the point. @param {number} value */
export const decimal = (value) => oneDigit.format(value);

/** "1 row", "1,204 rows". @param {number} value @param {string} noun @param {string} [nouns] */
export function plural(value, noun, nouns = `${noun}s`) {
  return `${count(value)} ${value === 1 ? noun : nouns}`;
}

/** A share of the whole; what is not all of it is never shown as 100 %. @param {number} part @param {number} whole */
export function share(part, whole) {
  if (whole === 0) return percents.format(0);
  const ratio = part / whole;
  return percents.format(part < whole ? Math.min(ratio, 0.99) : ratio);
}

/** @param {number} value */
export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let [size, unit] = [value, 0];
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? numbers.format(size) : oneDigit.format(size)} ${units[unit]}`;
}

/** "3 h 20 min", "41 s". @param {number} seconds */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 ? `${days} days ${hours % 24} h` : `${days} days`;
}

/** "1.2 s", "18 ms". @param {number} ms */
export const milliseconds = (ms) => (ms < 1000 ? `${count(ms)} ms` : `${decimal(ms / 1000)} s`);

/** @param {Date} date */
function isToday(date) {
  return date.toDateString() === new Date().toDateString();
}

/**
 * A time as people read it: of today the time of day, else with its date. UTC is a hover or a long press away.
 * @param {string | null | undefined} iso
 * @param {(date: Date) => string} [words]
 */
export function time(iso, words) {
  if (!iso) return el("span", { class: "soft" }, "–");
  const date = new Date(iso);
  const local = words?.(date) ?? (isToday(date) ? timeOfDay : dayAndTime).format(date);
  return el("time", { datetime: iso, title: `${utc(date)} · ${dayAndTime.format(date)}` }, local);
}

/** "3 min ago", "in 2 hr.", with the time in the title. @param {string | null | undefined} iso */
export const ago = (iso) => time(iso, (date) => awayFromNow((date.getTime() - Date.now()) / 1000));

/** @param {number} seconds */
function awayFromNow(seconds) {
  const size = Math.abs(seconds);
  if (size < 60) return relative.format(Math.round(seconds), "second");
  if (size < 3600) return relative.format(Math.round(seconds / 60), "minute");
  if (size < 86400) return relative.format(Math.round(seconds / 3600), "hour");
  return relative.format(Math.round(seconds / 86400), "day");
}

/** @param {Date} date */
const utc = (date) => `${date.toISOString().replace("T", " ").slice(0, 19)} UTC`;
