//! A row with its steps, as the API shows it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    appliance::Appliance,
    dispatch::waiting,
    model::{FailureCode, RowStatus, Saved, Timestamp},
    results::MASK,
    store::rows::StoredRow,
    work::{open_batch::OpenBatch, open_row::OpenRow},
};

/// A row, as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RowView {
    row: u32,
    line: u64,
    #[schemars(with = "RowStatus")]
    status: &'static str,
    attempts: u32,
    next_attempt_at: Option<Timestamp>,
    waiting_for: Option<String>,
    #[schemars(with = "Option<Value>")]
    check_id: Option<Saved>,
    error: Option<RowErrorView>,
    data: Map<String, Value>,
    steps: Vec<StepView>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct RowErrorView {
    step: Option<String>,
    #[schemars(with = "FailureCode")]
    code: &'static str,
    http_status: Option<u16>,
    message: String,
    body: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct StepView {
    name: String,
    #[schemars(with = "RowStatus")]
    status: &'static str,
    requests: u32,
    http_status: Option<u16>,
    at: Option<Timestamp>,
    duration_ms: Option<u64>,
    #[schemars(with = "BTreeMap<String, Value>")]
    saved: BTreeMap<String, Saved>,
}

impl RowView {
    /// Opens a row for somebody who may see it; `masked` hides every value of the row and of the answers. `batch_waits_for`
    /// is what its batch waits for. Blocks.
    pub fn of(
        appliance: &Appliance,
        open: &OpenBatch,
        row: &StoredRow,
        masked: bool,
        batch_waits_for: Option<&str>,
    ) -> Self {
        let show = |value: Value| if masked { Value::from(MASK) } else { value };
        let show_saved = |value: Saved| if masked { Value::from(MASK).into() } else { value };
        let OpenRow { record, progress, error } = OpenRow::of(open, row);
        let steps = &open.kept.workflow.steps;
        let step_views = steps.iter().zip(0..).filter_map(|(step, place)| {
            let history = progress.of(&step.name);
            let is_behind = place < steps_done(row);
            // A step that its batch's workflow got only when the row had come further was never called.
            if is_behind && history.is_none() && !progress.steps.is_empty() {
                return None;
            }
            let history = history.cloned().unwrap_or_default();
            Some(StepView {
                name: step.name.clone(),
                status: step_status(row, place),
                requests: history.requests,
                http_status: history.http_status,
                at: history.at.map(Timestamp),
                duration_ms: history.duration_ms,
                saved: history
                    .saved
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(name, value)| (name, show_saved(value)))
                    .collect(),
            })
        });
        let error = row.error.as_ref().zip(error).map(|(last, payload)| RowErrorView {
            step: steps.get(row.step as usize).map(|step| step.name.clone()),
            code: last.code.as_str(),
            http_status: last.http_status,
            message: payload.message,
            body: payload.body.map(|body| if masked { MASK.to_owned() } else { body }),
        });
        Self {
            row: row.row.number(),
            line: row.line,
            status: row.status.as_str(),
            attempts: row.attempts,
            next_attempt_at: row.next_attempt_at,
            waiting_for: waiting::of_row(appliance, row, batch_waits_for),
            check_id: progress.result.clone(),
            error,
            data: open.named_cells(&record.cells).map(|(name, cell)| (name.to_owned(), show(cell.into()))).collect(),
            steps: step_views.collect(),
        }
    }
}

/// A completed row has done all that there was for it, whatever came to its batch's workflow since.
fn steps_done(row: &StoredRow) -> u32 {
    if row.status == RowStatus::Completed { u32::MAX } else { row.step }
}

/// A step is what its row's position says: before it `completed`, at it what the row is, behind it `pending`.
fn step_status(row: &StoredRow, step: u32) -> &'static str {
    match step.cmp(&steps_done(row)) {
        std::cmp::Ordering::Less => RowStatus::Completed.as_str(),
        std::cmp::Ordering::Equal => row.status.as_str(),
        std::cmp::Ordering::Greater => RowStatus::Pending.as_str(),
    }
}
