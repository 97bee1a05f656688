// @ts-check
// What can be done with a batch. Each says first what it will do, in numbers.

import { del, post, withQuery } from "./api.js";
import { ask, curl } from "./dialog.js";
import { el } from "./dom.js";
import { count, plural, time } from "./format.js";
import { go } from "./router.js";

/** @import { Child } from "./dom.js" */
/** @import { Batch, ErrorGroup } from "./types.js" */

/** @param {string} text @param {Child} [more] */
const says = (text, more) => el("p", {}, text, more);

/** @param {{ asOperator: boolean, changed: () => void, gone: () => void }} options */
export function batchActions({ asOperator, changed, gone }) {
  const path = (/** @type {Batch} */ batch, /** @type {string} */ action) => `/v2/batches/${batch.id}/${action}`;
  const line = (/** @type {string} */ where) => () => curl("POST", where, { asOperator });
  const then = async (/** @type {import("./dialog.js").Action} */ action) => {
    if (await ask(action)) changed();
  };
  return {
    /** @param {Batch} batch */
    pause: (batch) => then({
      title: "Pause this batch?",
      does: says(`${plural(batch.counts.pending, "row")} will wait until it is resumed. ${plural(batch.counts.processing, "row")} under way will be finished.`),
      verb: "Pause",
      curl: line(path(batch, "pause")),
      command: () => `dripfeed batch pause ${batch.id}`,
      act: async () => {
        await post(path(batch, "pause"));
        return "The batch is paused.";
      },
    }),
    /** @param {Batch} batch */
    resume: (batch) => then({
      title: "Resume this batch?",
      does: says(`${plural(batch.counts.pending, "row")} will go on, within the limits of every run.`),
      verb: "Resume",
      curl: line(path(batch, "resume")),
      command: () => `dripfeed batch resume ${batch.id}`,
      act: async () => {
        await post(path(batch, "resume"));
        return "The batch goes on.";
      },
    }),
    /** @param {Batch} batch */
    cancel: (batch) => then({
      title: "Cancel this batch for good?",
      does: says(`${plural(batch.counts.pending, "row")} will never be worked on. ${plural(batch.counts.processing, "row")} under way will be finished; `
        + `${count(batch.counts.completed)} completed and ${count(batch.counts.failed)} failed ones stay as they are. This cannot be taken back.`),
      verb: `Cancel ${plural(batch.counts.pending, "row")}`,
      isGrave: true,
      curl: line(path(batch, "cancel")),
      command: () => `dripfeed batch cancel ${batch.id}`,
      act: async () => {
        const now = await post(path(batch, "cancel"));
        return `The batch is cancelled: ${plural(now.counts.cancelled, "row")} so far.`;
      },
    }),
    /** @param {Batch} batch @param {ErrorGroup[]} groups */
    retry: (batch, groups) => {
      const unknown = sum(groups.filter((group) => group.code === "outcome_unknown"));
      return then({
        title: `Retry ${plural(batch.counts.failed - unknown, "failed row")}?`,
        does: [
          says(`${plural(batch.counts.failed - unknown, "row")} will be pending again, at the step where each failed, with what was saved so far.`),
          unknown > 0 && says(`${plural(unknown, "row")} whose outcome is unknown are left alone: retry them by their own line, once it is clear that a second request does no harm.`),
        ],
        verb: `Retry ${plural(batch.counts.failed - unknown, "row")}`,
        curl: line(path(batch, "retry")),
        command: () => `dripfeed batch retry ${batch.id}`,
        act: async () => retried(await post(path(batch, "retry"))),
      });
    },
    /** @param {Batch} batch @param {ErrorGroup} group */
    retryGroup: (batch, { code, step, count: rows }) => {
      const where = withQuery(path(batch, "retry"), { code, step });
      return then({
        title: `Retry ${plural(rows, "row")} that failed with ${code}?`,
        does: [
          says(`${plural(rows, "row")} that failed with ${code}${step ? ` at ${step}` : ""} will be pending again.`),
          code === "outcome_unknown" && says("Their request left and no answer came: it may have been carried out. A retry may do it twice."),
        ],
        verb: `Retry ${plural(rows, "row")}`,
        isGrave: code === "outcome_unknown",
        curl: line(where),
        command: () => `dripfeed batch retry ${batch.id} --code ${code}${step ? ` --step ${step}` : ""}`,
        act: async () => retried(await post(where)),
      });
    },
    /** @param {Batch} batch */
    delete: (batch) => then({
      title: "Delete this batch for good?",
      does: says(`The file, ${plural(batch.counts.total, "row")} and their results will be gone, and the key that opens them. Download what you need first.`),
      verb: `Delete ${plural(batch.counts.total, "row")}`,
      isGrave: true,
      curl: () => curl("DELETE", `/v2/batches/${batch.id}`, { asOperator }),
      act: async () => {
        const receipt = await del(`/v2/batches/${batch.id}`);
        gone();
        go("/");
        const until = receipt?.backups_until ? ` Backups may hold it until ${time(receipt.backups_until).textContent}.` : "";
        return `Deleted: ${plural(receipt?.rows ?? batch.counts.total, "row")}.${until}`;
      },
    }),
  };
}

/** @param {ErrorGroup[]} groups */
const sum = (groups) => groups.reduce((total, group) => total + group.count, 0);

/** @param {any} answer */
function retried({ retried: told }) {
  if (!told) return "The failed rows are pending again.";
  const left = [
    told.left_alone_outcome_unknown > 0 ? ` ${count(told.left_alone_outcome_unknown)} with an unknown outcome were left alone.` : "",
    told.left_alone_bad_answer > 0 ? ` ${count(told.left_alone_bad_answer)} that were accepted with a bad answer were left alone.` : "",
  ].join("");
  return `${plural(told.rows, "row")} ${told.rows === 1 ? "is" : "are"} pending again${told.under_way ? ", more follow" : ""}.${left}`;
}
