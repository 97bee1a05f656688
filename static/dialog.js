// @ts-check
// Every action asks once: what it will do, in numbers, and which curl line and command do the same.

import { Problem } from "./api.js";
import { el } from "./dom.js";
import { toast } from "./say.js";

/** @import { Child } from "./dom.js" */
/**
 * @typedef {object} Action
 * @property {string} title a question: "Pause this batch?"
 * @property {Child} does what it will do, in numbers
 * @property {string} verb what stands on the button
 * @property {boolean} [isGrave] whether it cannot be taken back
 * @property {{ label: string, hint?: string, value?: string, type?: string, required?: boolean }} [field] what else is asked
 * @property {(value: string) => string} curl
 * @property {(value: string) => string} [command]
 * @property {(value: string) => Promise<string>} act does it, and tells what happened
 */

/** Asks, and acts where the answer is yes. Resolves once the dialog is closed. @param {Action} action @returns {Promise<boolean>} */
export function ask(action) {
  return new Promise((resolve) => {
    let done = false;
    const field = action.field && fieldOf(action.field);
    const value = () => field?.input.value.trim() ?? "";
    const fault = el("p", { class: "note bad", role: "alert", hidden: true });
    const confirm = el("button", { class: action.isGrave ? "grave" : "main" }, action.verb);
    const lines = el("div", { class: "lines" });
    const tellLines = () => lines.replaceChildren(...sameElsewhere(action, value()));
    field?.input.addEventListener("input", tellLines);
    tellLines();
    const dialog = el("dialog", { "aria-labelledby": "dialog-title", "aria-describedby": "dialog-does" });
    const form = el("form", { method: "dialog" },
      el("h2", { id: "dialog-title" }, action.title),
      el("div", { id: "dialog-does" }, action.does),
      field?.label,
      fault,
      el("div", { class: "actions" },
        el("button", { type: "button", onclick: () => dialog.close() }, "Not now"),
        confirm),
      el("details", { class: "same" }, el("summary", {}, "The same from a shell"), lines));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      confirm.disabled = true;
      fault.hidden = true;
      try {
        const happened = await action.act(value());
        done = true;
        dialog.close();
        toast(happened);
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        fault.textContent = error.message;
        fault.hidden = false;
        if (error.status === 401) dialog.close();
      } finally {
        confirm.disabled = false;
      }
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(done);
    });
    dialog.append(form);
    document.body.append(dialog);
    dialog.showModal();
    (field?.input ?? confirm).focus();
  });
}

/** @param {NonNullable<Action["field"]>} field */
function fieldOf({ label, hint, value = "", type = "text", required = false }) {
  const input = el("input", { type, value, required, autocomplete: "off", "aria-describedby": hint ? "dialog-hint" : null });
  if (type === "number") input.setAttribute("inputmode", "numeric");
  return { input, label: el("label", {}, label, input, hint && el("small", { id: "dialog-hint" }, hint)) };
}

/** @param {Action} action @param {string} value */
function sameElsewhere(action, value) {
  return [codeLine("curl", action.curl(value)), ...(action.command ? [codeLine("Command", action.command(value))] : [])];
}

/** A line to copy. @param {string} label @param {string} text */
export function codeLine(label, text) {
  const code = el("code", { tabindex: 0 }, text);
  const copy = el("button", {
    type: "button",
    class: "quiet",
    "aria-label": `Copy: ${label}`,
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(text);
        copy.textContent = "Copied";
      } catch {
        // Without TLS there is no clipboard; a selected line is one key away from it.
        getSelection()?.selectAllChildren(code);
      }
    },
  }, "Copy");
  return el("div", { class: "code-line" }, el("span", { class: "soft" }, label), copy, el("pre", {}, code));
}

/** A curl line of this server. @param {string} method @param {string} path @param {{ body?: unknown, asOperator?: boolean }} [options] */
export function curl(method, path, { body, asOperator = false } = {}) {
  const key = asOperator ? "$DRIPFEED_OPERATOR_TOKEN" : "$DRIPFEED_KEY";
  const parts = ["curl", ...(method === "GET" ? [] : ["-X", method]), `-H "Authorization: Bearer ${key}"`];
  if (body !== undefined) parts.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(body))}`);
  return [...parts, quoted(`${location.origin}${path}`)].join(" ");
}

/** Safe in a shell. @param {string} text */
export const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
