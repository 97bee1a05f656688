// @ts-check
// Addresses of the page: `#/batches/ID/rows?status=failed`. What is behind the `#` is never sent to a server, so that
// an address can be shared and bookmarked without standing in anybody's log.

/** @typedef {{ path: string, query: URLSearchParams }} Place */

/** @param {string} hash @returns {Place} */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split("?", 2);
  return { path: path || "/", query: new URLSearchParams(query) };
}

/** @returns {Place} */
export const here = () => parse(location.hash);

/** The parts of a path that fit a pattern like `/batches/:id`, or `null`. @param {string} pattern @param {string} path */
export function match(pattern, path) {
  const [wanted, given] = [pattern.split("/"), path.split("/")];
  if (wanted.length !== given.length) return null;
  /** @type {Record<string, string>} */
  const found = {};
  for (const [index, part] of wanted.entries()) {
    if (part.startsWith(":")) found[part.slice(1)] = decodeURIComponent(given[index]);
    else if (part !== given[index]) return null;
  }
  return found;
}

/** An address with a query; what is empty is left out. @param {string} path @param {Record<string, unknown>} [query] */
export function address(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return `#${path}${search ? `?${search}` : ""}`;
}

/** @param {string} path @param {Record<string, unknown>} [query] */
export function go(path, query) {
  location.hash = address(path, query);
}
