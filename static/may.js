// @ts-check
// What somebody may do: so that nobody is shown a button that would be refused. The server decides all the same.

/** @import { Who } from "./types.js" */

/** @param {Who} who */
export function may(who) {
  if (who.kind === "operator") {
    const works = who.role !== "viewer";
    return { upload: false, read: true, manage: works, reveal: works };
  }
  const has = (/** @type {import("./types.js").Scope} */ scope) => who.scopes?.includes(scope) ?? false;
  return { upload: has("upload"), read: has("read"), manage: has("manage"), reveal: has("read") };
}
