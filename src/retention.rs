//! What goes when it is old: finished batches, and entries of the audit.
//!
//! A batch is deleted as a person would delete it ([`deletions`]): at once, with its key, and the rest piece by piece.

use std::time::Duration;

use crate::{
    appliance::Appliance,
    model::Timestamp,
    store::{
        Store, StoreError,
        audit::{self, Deed},
        audit_chain,
        deletions::{self, Asked, CopiesKept},
        retention::{self as table, OldBatch},
    },
};

/// How often a server looks.
const EVERY: Duration = Duration::from_secs(10);
/// Batches that one transaction deletes.
const BATCHES_AT_ONCE: u32 = 50;
/// Entries of the audit that one transaction removes.
const ENTRIES_AT_ONCE: u32 = 1_000;

/// Deletes what was finished before this, and says how many batches that were. Each is noted in the audit as `deed`.
/// One of which a row is still being sent by hand is left for the next time.
pub fn purge(store: &Store, before: Timestamp, kept: CopiesKept, deed: &Deed) -> Result<u64, StoreError> {
    let mut purged = 0;
    let mut after: Option<OldBatch> = None;
    loop {
        let old = store.read(|connection| table::old_batches(connection, before, after.as_ref(), BATCHES_AT_ONCE))?;
        let Some(last) = old.last() else { return Ok(purged) };
        after = Some(last.clone());
        let deed = deed.clone();
        purged += store.write(move |tx| {
            let mut deleted = 0;
            for batch in &old {
                if let Asked::Deleted(_) = deletions::begin(tx, batch.id, kept)? {
                    audit::note(tx, &Deed { target: Some(batch.id.to_string()), ..deed.clone() })?;
                    deleted += 1;
                }
            }
            Ok(deleted)
        })?;
    }
}

/// Lets go of what is old, as configured, until the appliance closes.
pub fn watch(appliance: &Appliance) {
    loop {
        if let Err(error) = look(appliance) {
            tracing::error!(
                event = "retention.failed",
                %error,
                "what is old could not be purged; it is tried again by itself"
            );
        }
        if appliance.closing.wait(EVERY) {
            return;
        }
    }
}

fn look(appliance: &Appliance) -> Result<(), StoreError> {
    let (settings, now) = (&appliance.config.retention, appliance.clock.now());
    if let Some(age) = settings.finished_batches {
        let deed = Deed {
            who: "retention".to_owned(),
            origin: "server".to_owned(),
            action: "batch.purge",
            target: None,
            why: Some("retention.finished_batches".to_owned()),
        };
        let purged = purge(&appliance.store, now.before(age), appliance.config.backup.copies_kept(), &deed)?;
        if purged > 0 {
            tracing::info!(
                event = "retention.purged",
                batches = purged,
                "finished batches were purged: they are older than retention.finished_batches"
            );
            appliance.chores_bell.ring();
        }
    }
    let before = now.before(settings.audit);
    while appliance.store.write(move |tx| audit_chain::prune(tx, before, ENTRIES_AT_ONCE))? > 0 {
        if appliance.closing.is_closed() {
            break;
        }
    }
    Ok(())
}
