//! The rest of a deletion: first every copy of the data key, then the rows and the stored file.

use std::time::Duration;

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

pub(super) fn carry_on(appliance: &Appliance, memory: &mut Memory) -> Result<(), StoreError> {
    let under_way = appliance.store.read(|connection| deletions::under_way(connection, AT_ONCE))?;
    let is_new = |deletion: &&Deletion| !memory.keys_gone.contains(&deletion.batch);
    let new: Vec<i64> = under_way.iter().filter(is_new).map(|deletion| deletion.batch).collect();
    // Commands delete too: this process may still have the batch open.
    new.iter().for_each(|&batch| appliance.forget_batch(batch));
    if !new.is_empty() && appliance.store.truncate_wal()? {
        memory.keys_gone.extend(new);
    }
    let mut done = Vec::new();
    for deletion in &under_way {
        if remove_rows(appliance, deletion)? && deletion.object.is_none() {
            done.push(deletion);
        }
    }
    // What was removed since is cut from the WAL too, and only then is the deletion over.
    if done.is_empty() || !appliance.store.truncate_wal()? {
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
    let mut pause = FILES_EVERY;
    while !appliance.closing.wait(pause) {
        pause = if remove_files_once(appliance) { FILES_EVERY } else { FILES_AGAIN };
    }
}

/// Removes those that there are now; whether all could be.
pub(super) fn remove_files_once(appliance: &Appliance) -> bool {
    try_to_remove_files(appliance)
        .inspect_err(|error| {
            tracing::warn!(
                event = "batch.file_not_removed",
                %error,
                "the stored file of a deleted batch could not be removed yet"
            );
        })
        .is_ok()
}

fn try_to_remove_files(appliance: &Appliance) -> Result<(), FileError> {
    for deletion in appliance.store.read(|connection| deletions::under_way(connection, AT_ONCE))? {
        let Some(object) = &deletion.object else { continue };
        appliance.objects.delete(object)?;
        let batch = deletion.batch;
        appliance.store.write(move |tx| deletions::note_object_gone(tx, batch))?;
        appliance.chores_bell.ring();
    }
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
