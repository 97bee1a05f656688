//! A batch is paused, let go on, cancelled, deleted, moved to the present version of its workflow, or extracted by hand.

use super::{Actor, Env};
use crate::{
    appliance::Appliance,
    model::{BatchId, BatchStatus, outline},
    store::{
        StoreError, Tx,
        audit::{self, Deed},
        batches::{self, Batch, Cancelled},
        deletions::{self, Receipt},
        error, extraction, workflows,
    },
    work::workflows::VersionError,
};

/// Why a batch stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum BatchFault {
    /// It was deleted meanwhile.
    #[error("it is gone")]
    Missing,
    /// It has ended.
    #[error("it is {} already", .0.as_str())]
    Ended(BatchStatus),
    /// It has not ended.
    #[error("it is {}, and only a finished batch can be deleted", .0.as_str())]
    Unfinished(BatchStatus),
    /// One of its rows is being worked on.
    #[error("one of its rows is being worked on")]
    Claimed,
    /// Nobody can set rows going whose workflow cannot be read, or calls somebody whom nobody knows.
    #[error("nothing of it can be worked: {0}")]
    Unworkable(String),
    /// Its workflow has no step of that name; it has these.
    #[error("its workflow has no such step")]
    NoStep(Vec<String>),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came of a change.
#[derive(Debug)]
pub struct Changed {
    /// The batch since.
    pub batch: Batch,
    /// Whether anything changed by it: what is so already is fine, and no news.
    pub is_news: bool,
}

/// Claims none of its rows any more; what is under way finishes. Blocks.
pub fn pause(env: Env<'_>, actor: &Actor, batch: &Batch, reason: Option<String>) -> Result<Changed, BatchFault> {
    let (key, id) = (batch.batch, batch.id);
    let deed = actor.undoable("batch.pause", id.to_string(), reason.clone());
    let changed =
        change(env, key, deed, move |tx| if_it_goes_on(tx, key, |tx| batches::pause(tx, key, reason.as_deref())))?;
    if changed.is_news {
        tracing::info!(event = "batch.paused", batch = %id, "batch paused");
        env.wake_work();
    }
    Ok(changed)
}

/// Claims its rows again. Blocks.
pub fn resume(env: Env<'_>, actor: &Actor, batch: &Batch, reason: Option<String>) -> Result<Changed, BatchFault> {
    let (key, id) = (batch.batch, batch.id);
    must_be_workable(env, batch)?;
    let deed = actor.undoable("batch.resume", id.to_string(), reason);
    let changed = change(env, key, deed, move |tx| if_it_goes_on(tx, key, |tx| batches::resume(tx, key)))?;
    if changed.is_news {
        tracing::info!(event = "batch.resumed", batch = %id, "batch resumed");
        begin_anew(env, key);
        env.wake_work();
    }
    Ok(changed)
}

/// Ends it: what is under way finishes, the rest is never worked. It has no way back. Blocks.
pub fn cancel(env: Env<'_>, actor: &Actor, batch: &Batch, reason: Option<String>) -> Result<Changed, BatchFault> {
    let (key, id) = (batch.batch, batch.id);
    let deed = Some(actor.deed("batch.cancel", id.to_string(), reason));
    let changed = change(env, key, deed, move |tx| {
        Ok(match batches::cancel(tx, key)? {
            Cancelled::Now => Some(true),
            Cancelled::Before => Some(false),
            Cancelled::Ended => None,
        })
    })?;
    if changed.is_news {
        tracing::info!(event = "batch.cancel_asked", batch = %id, "batch is to be cancelled");
        env.wake_work();
    }
    Ok(changed)
}

/// Makes a change where rows of the batch can be worked yet.
fn if_it_goes_on(
    tx: &Tx<'_>,
    batch: i64,
    make: impl FnOnce(&Tx<'_>) -> error::Result<bool>,
) -> error::Result<Option<bool>> {
    match batches::by_key(tx.connection, batch)?.over() {
        Some(_) => Ok(None),
        None => make(tx).map(Some),
    }
}

/// Makes a change that says whether it is one, or nothing where it cannot be made any more.
fn change(
    env: Env<'_>,
    batch: i64,
    deed: Option<Deed>,
    make: impl FnOnce(&Tx<'_>) -> error::Result<Option<bool>> + Send + 'static,
) -> Result<Changed, BatchFault> {
    let (made, batch) = env.store.write(move |tx| {
        let made = make(tx)?;
        if let Some(deed) = deed.filter(|_| made == Some(true)) {
            audit::note(tx, &deed)?;
        }
        Ok((made, batches::by_key(tx.connection, batch)?))
    })?;
    match made {
        Some(is_news) => Ok(Changed { batch, is_news }),
        None => Err(BatchFault::Ended(batch.over().unwrap_or(batch.status))),
    }
}

/// How its last rows ended is no reason to pause it once somebody has looked.
pub(super) fn begin_anew(env: Env<'_>, batch: i64) {
    if let Some(process) = env.process {
        process.recent.forget(batch);
    }
}

/// Whether rows of it can be worked: its workflow can be read, and all that it calls is configured. Without keys it is told by the
/// workflow's outline. Blocks.
pub(super) fn must_be_workable(env: Env<'_>, batch: &Batch) -> Result<(), BatchFault> {
    let why = match env.process {
        Some(process) => match process.workflow(batch.workflow_version) {
            Ok(kept) => kept.way().err().map(|error| error.to_string()),
            Err(VersionError::Store(error)) => return Err(error.into()),
            Err(error) => Some(error.to_string()),
        },
        None => {
            let outline = env.store.read(|connection| workflows::outline(connection, batch.workflow_version))?;
            let missing = outline.missing(|name| env.config.dependencies.contains_key(name));
            missing.map(|missing| outline::why_missing(&batch.workflow, missing))
        }
    };
    why.map_or(Ok(()), |why| Err(BatchFault::Unworkable(why)))
}

/// Deletes a finished batch, where nothing of it is in flight; its rows and its file go behind that. Blocks.
pub fn delete(env: Env<'_>, actor: &Actor, batch: &Batch) -> Result<Receipt, BatchFault> {
    let (id, kept) = (batch.id, env.config.backup.copies_kept());
    let deed = actor.deed("batch.delete", id.to_string(), None);
    let asked = env.store.write(move |tx| {
        let asked = deletions::begin(tx, id, kept)?;
        if let deletions::Asked::Deleted(_) = &asked {
            audit::note(tx, &deed)?;
        }
        Ok(asked)
    })?;
    let receipt = match asked {
        deletions::Asked::Deleted(receipt) => receipt,
        deletions::Asked::Missing => return Err(BatchFault::Missing),
        deletions::Asked::Unfinished(status) => return Err(BatchFault::Unfinished(status)),
        deletions::Asked::Claimed => return Err(BatchFault::Claimed),
    };
    tracing::info!(event = "batch.deleted", batch = %id, rows = receipt.rows, "batch deleted");
    if let Some(process) = env.process {
        process.forget_batch(batch.batch);
    }
    env.wake_chores();
    Ok(receipt)
}

/// Claims a batch to be extracted by whoever asks, whatever the scheduler does; `None` where there is nothing to be claimed.
/// Blocks.
pub fn claim_extraction(appliance: &Appliance, actor: &Actor, batch: &Batch) -> Result<Option<Batch>, StoreError> {
    let (key, owner, ttl) = (batch.batch, appliance.owner, appliance.config.workers.claim_ttl);
    let deed = actor.deed("batch.run", batch.id.to_string(), None);
    appliance.store.write(move |tx| {
        extraction::release_expired(tx, key)?;
        let claimed = extraction::claim(tx, key, owner, tx.now.after(ttl))?;
        if claimed.is_some() {
            audit::note(tx, &deed)?;
        }
        Ok(claimed)
    })
}

/// A batch by its name. Blocks.
pub fn find(env: Env<'_>, id: BatchId) -> Result<Batch, BatchFault> {
    env.store.read(|connection| batches::find(connection, id))?.ok_or(BatchFault::Missing)
}
