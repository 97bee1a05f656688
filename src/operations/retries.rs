//! Failed rows of a batch are tried again, in place.

use super::{
    Actor, Env,
    batches::{BatchFault, begin_anew, must_be_workable},
};
use crate::{
    model::FailureCode,
    store::{
        StoreError, audit,
        batches::{self, Batch},
        retries::{self, Asked, Retried, StepSet, Which},
        workflows,
    },
};

/// Puts those back that failed with this code and at this step; where neither is said, all but those that were perhaps or
/// probably carried out. Many go back behind this, piece by piece. Blocks.
pub fn retry(
    env: Env<'_>,
    actor: &Actor,
    batch: &Batch,
    code: Option<FailureCode>,
    step: Option<&str>,
) -> Result<(Retried, Batch), BatchFault> {
    let id = batch.id;
    let which = which(env, batch, code, step)?;
    must_be_workable(env, batch)?;
    let meant = retries::told(code.map(FailureCode::as_str), step);
    let deed = actor.undoable("batch.retry", id.to_string(), meant);
    let (asked, found) = env.store.write(move |tx| {
        let asked = retries::begin(tx, id, which)?;
        if let Some(deed) = deed.as_ref().filter(|_| asked.changes_something()) {
            audit::note(tx, deed)?;
        }
        Ok((asked, batches::find(tx.connection, id)?))
    })?;
    let is_news = asked.changes_something();
    let retried = match asked {
        Asked::Retried(retried) => retried,
        Asked::Missing => return Err(BatchFault::Missing),
        Asked::Ended(status) => return Err(BatchFault::Ended(status)),
    };
    let found = found.ok_or(BatchFault::Missing)?;
    if is_news {
        let (rows, under_way) = (retried.rows, retried.under_way);
        tracing::info!(event = "batch.retried", batch = %id, rows, under_way, "failed rows are tried again");
        begin_anew(env, found.batch);
        env.wake_work();
        env.wake_chores();
    }
    Ok((retried, found))
}

fn which(env: Env<'_>, batch: &Batch, code: Option<FailureCode>, step: Option<&str>) -> Result<Which, BatchFault> {
    let outline = env.store.read(|connection| workflows::outline(connection, batch.workflow_version))?;
    let position = |name: &str| outline.position(name).and_then(|place| u32::try_from(place).ok());
    let names = || outline.steps.iter().map(|step| step.name.clone()).collect();
    let step = step.map(|name| position(name).ok_or_else(|| BatchFault::NoStep(names()))).transpose()?;
    Ok(Which { step, code, safe_steps: StepSet::safe(&outline) })
}

/// Carries a retry on to its end, where nobody else may be there to do it. Blocks.
pub fn carry_out(env: Env<'_>, batch: &Batch, mut retried: Retried) -> Result<Retried, StoreError> {
    let batch = batch.batch;
    while retried.under_way {
        let piece = env.store.write(move |tx| retries::carry_on_batch(tx, batch))?;
        retried.rows += piece.rows;
        retried.under_way = !piece.was_last;
    }
    Ok(retried)
}
