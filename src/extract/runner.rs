//! The thread that extracts batches as they come.

use std::{sync::Arc, time::Duration};

use super::{Extracted, extract};
use crate::{
    appliance::Appliance,
    model::BatchId,
    room::NoRoom,
    store::{StoreError, batches::Batch, extraction},
};

/// How long it sleeps when nobody rings: batches that are due again ring no bell.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Whose turn it is, and what is told once.
#[derive(Default)]
struct Turns {
    /// The client whose batch was extracted last.
    last: i64,
    /// A batch that has no room, as far as it was told.
    without_room: Option<BatchId>,
}

/// Extracts one batch after another until the appliance closes: in turn over clients, the oldest of each. One that has no
/// room on the disk lets the others go first.
pub fn run(appliance: &Arc<Appliance>) {
    let mut turns = Turns::default();
    while !appliance.closing.is_closed() {
        match extract_next(appliance, &mut turns) {
            Ok(true) => {}
            Ok(false) => appliance.extract_bell.wait(LONGEST_SLEEP),
            Err(error) => {
                tracing::error!(event = "extraction.stumbled", %error, "extraction stumbled over the database");
                appliance.closing.wait(LONGEST_SLEEP);
            }
        }
    }
}

/// The next batch that is due and has room, claimed.
fn claim_next(appliance: &Appliance, turns: &mut Turns) -> Result<Option<Batch>, StoreError> {
    let now = appliance.clock.now();
    let mut due = appliance.store.read(|connection| extraction::due(connection, now))?;
    let behind = due.iter().position(|due| due.client > turns.last).unwrap_or(0);
    due.rotate_left(behind);
    let mut without_room = None;
    for due in due {
        let Some(batch) = appliance.store.read(|connection| due.batch(connection))? else { continue };
        if let Err(short) = appliance.room.for_rows_of(&batch) {
            without_room.get_or_insert((batch.id, short));
            continue;
        }
        let (owner, ttl) = (appliance.owner, appliance.config.workers.claim_ttl);
        let claimed = appliance.store.write(move |tx| extraction::claim(tx, due.batch, owner, tx.now.after(ttl)))?;
        if claimed.is_some() {
            turns.last = due.client;
            turns.tell(without_room);
            return Ok(claimed);
        }
    }
    turns.tell(without_room);
    Ok(None)
}

impl Turns {
    /// Says once that a batch waits for room, and once that none does any more.
    fn tell(&mut self, without_room: Option<(BatchId, NoRoom)>) {
        match (without_room, self.without_room) {
            (Some((batch, short)), None) => {
                self.without_room = Some(batch);
                tracing::warn!(
                    event = "extraction.without_room",
                    %batch,
                    %short,
                    "extraction waits for room on the disk; `dripfeed purge` makes some"
                );
            }
            (None, Some(batch)) => {
                self.without_room = None;
                tracing::info!(
                    event = "extraction.has_room",
                    %batch,
                    "there is room on the disk again: extraction goes on"
                );
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
}

/// Extracts the batch whose turn it is; whether there was one, and room for it.
fn extract_next(appliance: &Arc<Appliance>, turns: &mut Turns) -> Result<bool, StoreError> {
    let Some(batch) = claim_next(appliance, turns)? else { return Ok(false) };
    let (id, rows) = (batch.id, batch.counts.total);
    tracing::info!(event = "extraction.started", batch = %id, rows, from = batch.extracted, "extraction started");
    let begun = appliance.clock.now();
    let extracted = extract(appliance, &batch)?;
    if let Some(traces) = &appliance.traces {
        traces.extraction(id, &batch.workflow, begun, extracted.as_str());
    }
    appliance.metrics.extraction.ended(extracted.as_str());
    match extracted {
        Extracted::Queued => {
            tracing::info!(event = "batch.queued", batch = %id, rows, "batch queued");
            appliance.work_bell.ring();
        }
        Extracted::Stopped => tracing::info!(event = "extraction.stopped", batch = %id, "extraction stopped"),
        Extracted::Later(reason) => {
            tracing::warn!(event = "extraction.delayed", batch = %id, reason, "extraction will be tried again");
        }
        Extracted::Failed(reason) => {
            tracing::error!(event = "batch.failed", batch = %id, reason, "batch failed to extract");
        }
    }
    Ok(true)
}
