//! Which rows may have been called between a backup and its restoring.

use std::time::Duration;

use serde::Serialize;

use crate::{
    model::{Outline, Timestamp, workflow::Repeat},
    store::{Store, StoreError, restored, workflows},
};

/// A batch with rows that the backup shows as unfinished. Since then they may have been called, or even finished.
#[derive(Debug, Clone, Serialize)]
pub struct BatchAtRisk {
    /// The batch.
    pub batch: String,
    /// Whose it is.
    pub client: String,
    /// What its rows go through.
    pub workflow: String,
    /// Its unfinished rows, also those that were not extracted.
    pub rows: u64,
    /// Those rows by the step that was their next.
    pub next_steps: Vec<NextStep>,
    /// What sending a request of theirs once more can do, at worst.
    pub danger: Danger,
}

/// Rows that have this step before them, and all that follow it.
#[derive(Debug, Clone, Serialize)]
pub struct NextStep {
    /// The step's name.
    pub step: String,
    /// How many.
    pub rows: u64,
}

/// What a repeated request can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Danger {
    /// Nothing: every step that is left is safe to repeat, or carries a key that the downstream still honours.
    None,
    /// The backup is older than `repeat_window`: the downstream may have forgotten the key of a request that left since.
    KeyForgotten,
    /// A step that is left must never be repeated by itself.
    NeverRepeat,
}

/// Looks through the unfinished batches of a restored database.
pub fn find(store: &Store, taken_at: Timestamp, now: Timestamp) -> Result<Vec<BatchAtRisk>, StoreError> {
    store.read(|connection| {
        let mut found = Vec::new();
        for batch in restored::unfinished(connection)? {
            let mut by_step = restored::unfinished_rows(connection, batch.batch)?;
            if batch.not_extracted > 0 {
                by_step.insert(0, (0, u64::from(batch.not_extracted)));
            }
            let outline = workflows::outline(connection, batch.workflow_version)?;
            let first = by_step.iter().map(|(step, _)| *step).min().unwrap_or(0);
            found.push(BatchAtRisk {
                batch: batch.id.to_string(),
                client: batch.client,
                rows: by_step.iter().map(|(_, rows)| rows).sum(),
                next_steps: by_step.iter().map(|&(step, rows)| next_step(&outline, step, rows)).collect(),
                danger: danger(&outline, first, taken_at, now),
                workflow: batch.workflow,
            });
        }
        Ok(found)
    })
}

fn next_step(outline: &Outline, step: u32, rows: u64) -> NextStep {
    let named = outline.steps.get(step as usize);
    NextStep { step: named.map_or_else(|| format!("step {}", step + 1), |step| step.name.clone()), rows }
}

fn danger(outline: &Outline, first: u32, taken_at: Timestamp, now: Timestamp) -> Danger {
    let left = outline.steps.iter().skip(first as usize);
    let repeat_window = Duration::from_millis(outline.repeat_window_ms);
    let of_step = |repeat: Repeat| match repeat {
        Repeat::Safe => Danger::None,
        Repeat::IdempotencyKey if now.since(taken_at) < repeat_window => Danger::None,
        Repeat::IdempotencyKey => Danger::KeyForgotten,
        Repeat::Never => Danger::NeverRepeat,
    };
    left.map(|step| of_step(step.repeat)).max().unwrap_or(Danger::None)
}
