//! The thread that extracts batches as they come.

use std::{sync::Arc, time::Duration};

use super::{Extracted, extract};
use crate::{
    appliance::Appliance,
    store::{StoreError, extraction},
};

/// How long it sleeps when nobody rings: batches that are due again ring no bell.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Extracts one batch after another, oldest first, until the appliance closes.
pub fn run(appliance: &Arc<Appliance>) {
    let mut waits_for_room = false;
    while !appliance.closing.is_closed() {
        match extract_next(appliance, &mut waits_for_room) {
            Ok(true) => {}
            Ok(false) => appliance.extract_bell.wait(LONGEST_SLEEP),
            Err(error) => {
                tracing::error!(event = "extraction.stumbled", %error, "extraction stumbled over the database");
                appliance.closing.wait(LONGEST_SLEEP);
            }
        }
    }
}

/// Extracts the oldest batch that is due; whether there was one, and room for it.
fn extract_next(appliance: &Arc<Appliance>, waits_for_room: &mut bool) -> Result<bool, StoreError> {
    let Some(due) = appliance.store.read(|connection| extraction::next_due(connection, appliance.clock.now()))? else {
        return Ok(false);
    };
    if let Err(short) = appliance.room.for_rows_of(&due) {
        if !std::mem::replace(waits_for_room, true) {
            tracing::warn!(
                event = "extraction.without_room",
                batch = %due.id,
                %short,
                "extraction waits for room on the disk; `dripfeed purge` makes some"
            );
        }
        return Ok(false);
    }
    if std::mem::take(waits_for_room) {
        tracing::info!(
            event = "extraction.has_room",
            batch = %due.id,
            "there is room on the disk again: extraction goes on"
        );
    }
    let (owner, ttl) = (appliance.owner, appliance.config.workers.claim_ttl);
    let claimed = appliance.store.write(move |tx| extraction::claim_next(tx, owner, tx.now.after(ttl)))?;
    let Some(batch) = claimed else { return Ok(false) };
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
