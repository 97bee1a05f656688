//! A batch is moved to the present version of its workflow, because a person says so.
//!
//! That is possible where nothing is under way, and no row has been where the present version does not lead: the steps that
//! rows have done or stand at have to be there still, in the same order. A row goes on at the step of the name at which it
//! stands, so what comes before that one since is not called for it. One of which no request ever left begins at the front.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    appliance::Appliance,
    model::{BatchId, BatchStatus, Outline, Workflow, workflow::Repeat},
    store::{
        StoreError, Tx,
        audit::{self, Deed},
        batches::{self, Batch},
        upgrades::{self, MOST_MOVED, Standing, UnderWay},
        workflows,
    },
    template,
    work::{
        open_batch::{OpenBatch, OpenBatchError},
        unkeyed::Sender,
        workflows::{Kept, VersionError},
    },
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
    /// Its file is being read.
    #[error("it is being extracted: try again when that has ended")]
    Extracting,
    /// Rows are being worked, or put back.
    #[error("{}", wait_for(*.0))]
    UnderWay(UnderWay),
    /// A row stands where the present version does not lead.
    #[error("row {} has come to `{}`, and the steps up to that one are not all there any more, in the same order", .0.example_row, .0.step)]
    Step(Standing),
    /// A row went past the step that saves what is needed now.
    #[error(
        "row {} has come to `{}`, and `{step}` needs `saved.{name}` by now, which nothing saved that this row has done: give it a `default`",
        .standing.example_row, .standing.step
    )]
    Saved {
        /// Where the row stands.
        standing: Standing,
        /// The step that would be made of it.
        step: String,
        /// What that needs.
        name: String,
    },
    /// One transaction would take too long.
    #[error(
        "more than {MOST_MOVED} rows were begun at steps that come later now, or whose requests may be repeated in another way: what comes \
         behind those can be changed; else let it end, and upload again what failed"
    )]
    TooMany,
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

fn wait_for(under_way: UnderWay) -> String {
    match under_way {
        UnderWay::Rows(rows) => {
            format!("{rows} of its rows are under way: pause it, and try again when they have ended")
        }
        UnderWay::Retry => "failed rows of it are being put back: try again when that has ended".to_owned(),
    }
}

/// Moves a batch to the present version of its workflow, in one transaction; `deed` is noted where that changes something.
pub fn upgrade(appliance: &Arc<Appliance>, id: BatchId, deed: Deed) -> Result<Upgraded, Refused> {
    let batch = appliance.store.read(|connection| batches::find(connection, id))?.ok_or(Refused::Missing)?;
    let current = appliance.workflows.current(&batch.workflow);
    let current = current.ok_or_else(|| Refused::NotConfigured(batch.workflow.clone()))?;
    // Not with the workflow that it has: to leave one that cannot be read is what this is for too.
    let open = OpenBatch::open(&appliance.store, &appliance.ring(), batch.batch, current.clone())?;
    let columns = &current.workflow.columns;
    if let Some(column) = columns.iter().find(|column| column.required && !has_column(&open, &column.name)) {
        return Err(Refused::Column(column.name.clone()));
    }
    let was = match appliance.workflow(batch.workflow_version) {
        Ok(was) => Some(was),
        Err(VersionError::Store(error)) => return Err(error.into()),
        Err(_) => None,
    };
    let (version, present) = (current.version, current.clone());
    let sender = Sender::new(appliance, open, was);
    let moved = appliance.store.write(move |tx| {
        let moved = change(tx, id, &sender, &present)?;
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

/// `sender` knows what the batch's rows have sent until now.
fn change(tx: &Tx<'_>, id: BatchId, sender: &Sender, now: &Kept) -> Result<Result<Upgraded, Refused>, StoreError> {
    let (to, present) = (now.version, &Outline::of(&now.workflow));
    let Some(batch) = batches::find(tx.connection, id)? else { return Ok(Err(Refused::Missing)) };
    if batch.workflow_version == to {
        return Ok(Ok(Upgraded::Already));
    }
    if let Some(refused) = not_now(tx, &batch)? {
        return Ok(Err(refused));
    }
    let kept = workflows::outline(tx.connection, batch.workflow_version)?;
    let standing = upgrades::standing(tx.connection, batch.batch, &kept)?;
    let moves = match moves(&kept, present, &standing) {
        Ok(moves) => moves,
        Err(standing) => return Ok(Err(Refused::Step(standing.clone()))),
    };
    if let Some(was) = sender.was().filter(|was| was.version == batch.workflow_version)
        && let Some(refused) = lacking(&was.workflow, &now.workflow, &standing)
    {
        return Ok(Err(refused));
    }
    let mut rows = 0;
    for &(from, _) in &moves {
        rows += upgrades::count_at(tx.connection, batch.batch, from)?;
    }
    let strangers = strangers(&kept, present, &standing);
    for &place in strangers.iter().filter(|&place| moves.iter().all(|(from, _)| from != place)) {
        rows += upgrades::count_unkeyed(tx.connection, batch.batch, place)?;
    }
    if rows > MOST_MOVED {
        return Ok(Err(Refused::TooMany));
    }
    for place in strangers {
        upgrades::note_keys(tx, batch.batch, place, |row| sender.key(place, row))?;
    }
    for (from, to) in moves {
        upgrades::move_rows(tx, batch.batch, from, to)?;
    }
    upgrades::change_version(tx, batch.batch, batch.workflow_version, to)?;
    Ok(Ok(Upgraded::Moved))
}

fn not_now(tx: &Tx<'_>, batch: &Batch) -> Result<Option<Refused>, StoreError> {
    if batch.cancelled_at.is_some() || batch.status == BatchStatus::Failed {
        let status = if batch.status.is_finished() { batch.status } else { BatchStatus::Cancelled };
        return Ok(Some(Refused::Ended(status)));
    }
    if batch.status == BatchStatus::Processing {
        return Ok(Some(Refused::Extracting));
    }
    Ok(upgrades::under_way(tx.connection, batch.batch)?.map(Refused::UnderWay))
}

/// From which place to which rows have to be moved, the last ones first; or what does not lead on. All steps up to one that
/// rows have come to have to be there at present, in the same order; so none comes to stand further in front.
fn moves<'s>(kept: &Outline, present: &Outline, standing: &'s [Standing]) -> Result<Vec<(u32, u32)>, &'s Standing> {
    let mut found = Vec::new();
    for at in standing {
        let to = leads_to(kept, present, at.place as usize).ok_or(at)?;
        found.push((at.place, to));
    }
    found.retain(|(from, to)| from != to);
    found.reverse();
    Ok(found)
}

/// Where the step at this place of `kept` is at present, if all up to it are there in the same order.
fn leads_to(kept: &Outline, present: &Outline, place: usize) -> Option<u32> {
    let mut rest = present.steps.iter().zip(0_u32..);
    kept.steps.get(..=place)?.iter().try_fold(0, |_, done| {
        let (_, to) = rest.find(|(step, _)| step.name == done.name)?;
        Some(to)
    })
}

/// What rows would need of a step that they have behind them, and that saved nothing of that name for them.
fn lacking(was: &Workflow, now: &Workflow, standing: &[Standing]) -> Option<Refused> {
    standing.iter().filter(|at| !at.is_over).find_map(|at| {
        let done = was.steps.get(..at.place as usize)?;
        let mut saved: BTreeSet<&str> = done.iter().flat_map(|step| step.save.keys()).map(String::as_str).collect();
        now.steps.iter().skip_while(|step| step.name != at.step).find_map(|step| {
            let mut needed = step.templates().into_iter().flat_map(template::saved_names);
            let name = needed.find(|name| !saved.contains(name.as_str()));
            saved.extend(step.save.keys().map(String::as_str));
            Some(Refused::Saved { standing: at.clone(), step: step.name.clone(), name: name? })
        })
    })
}

/// Where rows stand whose request of before must not be taken for one of the present version: everywhere, but at a step whose
/// requests did no harm twice, and do none now.
fn strangers(kept: &Outline, present: &Outline, standing: &[Standing]) -> Vec<u32> {
    let is_safe = |outline: &Outline, step: &str| {
        outline.position(step).is_some_and(|place| outline.steps[place].repeat == Repeat::Safe)
    };
    let stays_safe = |at: &&Standing| is_safe(kept, &at.step) && is_safe(present, &at.step);
    standing.iter().filter(|at| !stays_safe(at)).map(|at| at.place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outline::StepOutline;

    fn outline(steps: &str) -> Outline {
        let step =
            |name: &str| StepOutline { name: name.to_owned(), dependency: "crm".to_owned(), repeat: Repeat::Safe };
        Outline { repeat_window_ms: 0, steps: steps.split(' ').map(step).collect() }
    }

    /// Rows at the step of this name, and where they have to go, if there is a way.
    fn way(kept: &str, present: &str, at: &str) -> Option<u32> {
        let kept = outline(kept);
        leads_to(&kept, &outline(present), kept.position(at)?)
    }

    #[test]
    fn what_was_done_has_to_be_there_in_its_order_and_the_rest_may_change() {
        for (present, at, leads) in [
            ("a b c", "c", Some(2)),
            ("a b d", "b", Some(1)),
            ("a b", "b", Some(1)),
            ("a c b", "a", Some(0)),
            ("a d c", "b", None),
            ("b a c", "b", None),
            ("c", "c", None),
            ("a b", "c", None),
            ("x a b c", "a", Some(1)),
            ("x a y b z c", "b", Some(3)),
            ("x a y b z c", "c", Some(5)),
        ] {
            assert_eq!(way("a b c", present, at), leads, "{at} in {present}");
        }
    }

    #[test]
    fn only_what_was_safe_and_is_safe_is_repeated_as_something_else() {
        let with = |repeats: &[Repeat]| {
            let mut outline = outline("a b c d");
            outline.steps.iter_mut().zip(repeats).for_each(|(step, repeat)| step.repeat = *repeat);
            outline
        };
        let kept = with(&[Repeat::Safe, Repeat::Safe, Repeat::IdempotencyKey, Repeat::Never]);
        let present = with(&[Repeat::Safe, Repeat::IdempotencyKey, Repeat::Safe, Repeat::Safe]);
        let standing: Vec<_> = (0..).zip(&kept.steps).map(|(place, step)| standing(place, &step.name)).collect();
        assert_eq!(strangers(&kept, &present, &standing), [1, 2, 3]);
        assert_eq!(strangers(&kept, &kept, &standing), [2, 3]);
    }

    fn standing(place: u32, step: &str) -> Standing {
        Standing { place, step: step.to_owned(), example_row: 1, is_over: false }
    }

    #[test]
    fn what_goes_further_goes_first_so_that_nothing_is_moved_twice() {
        let (kept, present) = (outline("a b c"), outline("x a y b c"));
        let at = |place: u32| standing(place, &kept.steps[place as usize].name);
        assert_eq!(moves(&kept, &present, &[at(0), at(1), at(2)]), Ok(vec![(2, 4), (1, 3), (0, 1)]));
        assert_eq!(moves(&kept, &outline("a x b"), &[at(0), at(1)]), Ok(vec![(1, 2)]));
        assert_eq!(moves(&kept, &outline("a b x"), &[at(0), at(2)]), Err(&at(2)));
    }
}
