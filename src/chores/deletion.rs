//! The rest of a deletion: first every copy of the data key, then the rows and the stored file.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{AT_ONCE, Memory, retry};
use crate::{
    appliance::Appliance,
    crash_point::crash_point,
    objects::ObjectError,
    store::{
        StoreError,
        deletions::{self, Deletion},
    },
};

/// How often stored files to be removed are looked for, and how long a place for them is left alone that did not answer.
const FILES_EVERY: Duration = Duration::from_millis(500);
const FILES_AGAIN: Duration = Duration::from_secs(5);
/// When a file is tried again that is not given up, as in a bucket with a lock: twice as long after each try.
const REFUSED_AGAIN: Duration = Duration::from_secs(30);
const REFUSED_AGAIN_MOST: Duration = Duration::from_secs(3600);

pub(super) fn carry_on(appliance: &Appliance, memory: &mut Memory) -> Result<(), StoreError> {
    let under_way = appliance.store.read(|connection| deletions::under_way(connection, AT_ONCE))?;
    let is_new = |deletion: &&Deletion| !memory.keys_gone.contains(&deletion.batch);
    let new: Vec<i64> = under_way.iter().filter(is_new).map(|deletion| deletion.batch).collect();
    // Commands delete too: this process may still have the batch open.
    new.iter().for_each(|&batch| appliance.forget_batch(batch));
    if !new.is_empty() && cut_wal(appliance)? {
        memory.keys_gone.extend(new);
    }
    let is_noted = |deletion: &Deletion| deletion.is_listed || appliance.config.backup.to.is_none();
    let mut done = Vec::new();
    for deletion in &under_way {
        if remove_rows(appliance, deletion)? && deletion.object.is_none() && is_noted(deletion) {
            done.push(deletion);
        }
    }
    // What was removed since is cut from the WAL too, and only then is the deletion over.
    if done.is_empty() || !cut_wal(appliance)? {
        return Ok(());
    }
    for deletion in &done {
        let batch = deletion.batch;
        appliance.store.write(move |tx| deletions::forget(tx, batch))?;
        memory.keys_gone.remove(&batch);
        tracing::info!(
            event = "batch.erased",
            batch = %deletion.id,
            rows = deletion.rows,
            "a deleted batch is gone to the last byte"
        );
    }
    Ok(())
}

/// Whether no copy of what was overwritten is left in the WAL, as far as that is ours to say. What copies the database all
/// the time (`backup.replica_keep`) never lets the WAL be cut, so nobody waits for that there: until the time that the
/// receipt tells, it has a copy of its own.
fn cut_wal(appliance: &Appliance) -> Result<bool, StoreError> {
    Ok(appliance.store.truncate_wal()? || appliance.config.backup.replica_keep.is_some())
}

/// Whether all are gone.
fn remove_rows(appliance: &Appliance, deletion: &Deletion) -> Result<bool, StoreError> {
    while !appliance.closing.is_closed() {
        let this = deletion.clone();
        if appliance.store.write(move |tx| deletions::remove_piece(tx, &this))? {
            return Ok(true);
        }
        crash_point("deletion.between_pieces");
        // What somebody waits for goes before what nobody can see.
        retry::carry_on(appliance)?;
    }
    Ok(false)
}

/// Removes the stored files of deleted batches until the appliance closes. A thread of its own: a bucket that is out of
/// reach can let it wait for long.
pub fn remove_files(appliance: &Appliance) {
    let mut refusals = Refusals::default();
    let mut pause = FILES_EVERY;
    while !appliance.closing.wait(pause) {
        pause = if remove_files_once(appliance, &mut refusals) { FILES_EVERY } else { FILES_AGAIN };
    }
}

/// Stored files that the place where they are does not give up, and when each is tried again.
#[derive(Default)]
pub(super) struct Refusals(BTreeMap<i64, Refusal>);

struct Refusal {
    again: Instant,
    pause: Duration,
}

impl Refusals {
    fn is_due(&self, batch: i64) -> bool {
        self.0.get(&batch).is_none_or(|refusal| refusal.again <= Instant::now())
    }

    /// It is tried again after twice the time.
    fn note(&mut self, batch: i64) -> Duration {
        let before = self.0.get(&batch).map(|refusal| refusal.pause);
        let pause = before.map_or(REFUSED_AGAIN, |pause| pause.saturating_mul(2).min(REFUSED_AGAIN_MOST));
        self.0.insert(batch, Refusal { again: Instant::now() + pause, pause });
        pause
    }
}

/// Removes those that there are now and that are due; whether the place was there for them.
pub(super) fn remove_files_once(appliance: &Appliance, refusals: &mut Refusals) -> bool {
    let removed = remove_all_files(appliance, refusals);
    removed
        .inspect_err(|error| {
            tracing::warn!(
                event = "batch.file_not_removed",
                %error,
                "the stored file of a deleted batch could not be removed yet"
            );
        })
        .is_ok()
}

fn remove_all_files(appliance: &Appliance, refusals: &mut Refusals) -> Result<(), FileError> {
    let mut after = 0;
    loop {
        let with_file = appliance.store.read(|connection| deletions::with_file(connection, after, AT_ONCE))?;
        let Some(last) = with_file.last() else { return Ok(()) };
        after = last.batch;
        for deletion in &with_file {
            if refusals.is_due(deletion.batch) {
                remove_file(appliance, deletion, refusals)?;
            }
            if appliance.closing.is_closed() {
                return Ok(());
            }
        }
    }
}

/// One that is refused is left for later, and the others go on. Where the place is out of reach, it is so for all.
fn remove_file(appliance: &Appliance, deletion: &Deletion, refusals: &mut Refusals) -> Result<(), FileError> {
    let Some(object) = &deletion.object else { return Ok(()) };
    let batch = deletion.batch;
    match appliance.objects.delete(object) {
        Err(error @ ObjectError::Refused { .. }) => {
            let pause = refusals.note(batch);
            tracing::error!(
                event = "batch.file_refused",
                batch = %deletion.id,
                %error,
                again_in_seconds = pause.as_secs(),
                "the stored file of a deleted batch stays: it is not given up"
            );
            return Ok(());
        }
        removed => removed?,
    }
    refusals.0.remove(&batch);
    appliance.store.write(move |tx| deletions::note_object_gone(tx, batch))?;
    appliance.chores_bell.ring();
    Ok(())
}

/// Why a stored file is still there.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error(transparent)]
    Objects(#[from] ObjectError),
    #[error(transparent)]
    Store(#[from] StoreError),
}
