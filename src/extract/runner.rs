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
    while !appliance.closing.is_closed() {
        match extract_next(appliance) {
            Ok(true) => {}
            Ok(false) => appliance.extract_bell.wait(LONGEST_SLEEP),
            Err(error) => {
                tracing::error!(event = "extraction.stumbled", %error, "extraction stumbled over the database");
                appliance.closing.wait(LONGEST_SLEEP);
            }
        }
    }
}

/// Extracts the oldest batch that is due; whether there was one.
fn extract_next(appliance: &Arc<Appliance>) -> Result<bool, StoreError> {
    let (owner, ttl) = (appliance.owner, appliance.config.workers.claim_ttl);
    let claimed = appliance.store.write(move |tx| extraction::claim_next(tx, owner, tx.now.after(ttl)))?;
    let Some(batch) = claimed else { return Ok(false) };
    let (id, rows) = (batch.id, batch.counts.total);
    tracing::info!(event = "extraction.started", batch = %id, rows, from = batch.extracted, "extraction started");
    let extracted = extract(appliance, &batch)?;
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
