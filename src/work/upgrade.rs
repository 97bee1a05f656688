//! A batch is moved to the present version of its workflow, because a person says so.
//!
//! That is possible where nothing is under way, and no row has been where the present version does not lead: the steps that
//! rows have done or stand at have to be there still, in the same order. A row goes on at the step of the name at which it
//! stands, so what now comes before that one is not called for it.

use crate::{
    appliance::Appliance,
    model::{BatchId, BatchStatus, Outline},
    store::{
        StoreError, Tx,
        audit::{self, Deed},
        batches::{self, Batch},
        workflows::{self, Standing},
    },
    work::open_batch::{OpenBatch, OpenBatchError},
};

/// What the audit calls it.
pub const DEED: &str = "batch.upgrade";

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgraded {
    /// The batch is worked by the present version from now on.
    Moved,
    /// It was already.
    Already,
}

/// Why a batch stays with its version.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such batch (any more).
    #[error("there is no such batch")]
    Missing,
    /// Nothing of it is ever worked again.
    #[error("it is {}, and nothing of it is worked any more", .0.as_str())]
    Ended(BatchStatus),
    /// There is no present version.
    #[error("the workflow `{0}` is not configured any more")]
    NotConfigured(String),
    /// Rows are being worked.
    #[error("{0} of its rows are under way: pause it, and try again when they have ended")]
    UnderWay(u32),
    /// A row stands where the present version does not lead.
    #[error("row {} {}: the steps up to that one are not all there any more, in the same order", .0.example_row, at(.0))]
    Step(Standing),
    /// The rows do not have a column that is required now.
    #[error("its file has no column `{0}`, which is required now")]
    Column(String),
    /// What is sealed of it does not open.
    #[error(transparent)]
    Batch(#[from] OpenBatchError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn at(standing: &Standing) -> String {
    format!("stands at `{}`", standing.step)
}

/// Moves a batch to the present version of its workflow, in one transaction; `deed` is noted where that changes something.
pub fn upgrade(appliance: &Appliance, id: BatchId, deed: Deed) -> Result<Upgraded, Refused> {
    let batch = appliance.store.read(|connection| batches::find(connection, id))?.ok_or(Refused::Missing)?;
    let current = appliance.workflows.current(&batch.workflow);
    let current = current.ok_or_else(|| Refused::NotConfigured(batch.workflow.clone()))?;
    let open = appliance.open_batch(batch.batch, batch.workflow_version)?;
    let columns = &current.workflow.columns;
    if let Some(column) = columns.iter().find(|column| column.required && !has_column(&open, &column.name)) {
        return Err(Refused::Column(column.name.clone()));
    }
    let (version, outline) = (current.version, Outline::of(&current.workflow));
    let moved = appliance.store.write(move |tx| {
        let moved = change(tx, id, version, &outline)?;
        if matches!(moved, Ok(Upgraded::Moved)) {
            audit::note(tx, &deed)?;
        }
        Ok(moved)
    })??;
    if moved == Upgraded::Moved {
        let from = batch.workflow_version;
        tracing::info!(event = "batch.upgraded", batch = %id, from, to = version, "batch moved to the present version of its workflow");
        appliance.work_bell.ring();
    }
    Ok(moved)
}

fn has_column(open: &OpenBatch, name: &str) -> bool {
    open.details.header.kept().any(|column| column.template_name() == name)
}

fn change(tx: &Tx<'_>, id: BatchId, to: i64, present: &Outline) -> Result<Result<Upgraded, Refused>, StoreError> {
    let Some(batch) = batches::find(tx.connection, id)? else { return Ok(Err(Refused::Missing)) };
    if batch.workflow_version == to {
        return Ok(Ok(Upgraded::Already));
    }
    if let Some(refused) = refused(tx, &batch, present)? {
        return Ok(Err(refused));
    }
    match workflows::change_of_batch(tx, batch.batch, batch.workflow_version, to)? {
        true => Ok(Ok(Upgraded::Moved)),
        false => Ok(Err(Refused::UnderWay(batch.counts.processing))),
    }
}

fn refused(tx: &Tx<'_>, batch: &Batch, present: &Outline) -> Result<Option<Refused>, StoreError> {
    if batch.cancelled_at.is_some() || batch.status == BatchStatus::Failed {
        let status = if batch.status.is_finished() { batch.status } else { BatchStatus::Cancelled };
        return Ok(Some(Refused::Ended(status)));
    }
    if batch.counts.processing > 0 {
        return Ok(Some(Refused::UnderWay(batch.counts.processing)));
    }
    let kept = workflows::outline(tx.connection, batch.workflow_version)?;
    let standing = workflows::standing_steps(tx.connection, batch.batch)?;
    Ok(standing.into_iter().find(|standing| !leads_to(&kept, present, &standing.step)).map(Refused::Step))
}

/// Whether all steps up to this one, as a batch has them, are there at present in the same order.
fn leads_to(kept: &Outline, present: &Outline, step: &str) -> bool {
    let Some(place) = kept.position(step) else { return false };
    let mut rest = present.steps.iter();
    let in_order = kept.steps[..=place].iter().all(|done| rest.any(|step| step.name == done.name));
    // Rows count the steps that they have done, so none may come in between.
    in_order && present.position(step) == Some(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{outline::StepOutline, workflow::Repeat};

    fn outline(steps: &str) -> Outline {
        let step =
            |name: &str| StepOutline { name: name.to_owned(), dependency: "crm".to_owned(), repeat: Repeat::Safe };
        Outline { repeat_window_ms: 0, steps: steps.split(' ').map(step).collect() }
    }

    #[test]
    fn what_was_done_has_to_be_there_in_its_order_and_the_rest_may_change() {
        for (present, at, leads) in [
            ("a b c", "c", true),
            ("a b d", "b", true),
            ("a b", "b", true),
            ("a c b", "a", true),
            ("a d c", "b", false),
            ("b a c", "b", false),
            ("c", "c", false),
            ("a b", "c", false),
        ] {
            assert_eq!(leads_to(&outline("a b c"), &outline(present), at), leads, "{at} in {present}");
        }
    }
}
