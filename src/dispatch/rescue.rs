//! Claims whose owner is gone or went silent are freed, so that nothing stays `processing` for ever. Those of this process's
//! own workers are renewed before.

use std::time::Duration;

use crate::{
    appliance::Appliance,
    store::{
        StoreError, Tx,
        audit::{self, Deed},
        stuck::{self, Lost},
    },
};

/// How often a server looks for expired claims.
const EVERY: Duration = Duration::from_secs(5);

/// What was freed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Freed {
    /// Rows that are `pending` again.
    pub rows: usize,
    /// Batches that will be extracted again.
    pub batches: usize,
}

/// Frees lost claims, in pieces that let other writes in between.
pub fn free(appliance: &Appliance, lost: Lost) -> Result<Freed, StoreError> {
    free_noting(appliance, lost, None)
}

/// Frees expired claims because somebody says so, which is noted with the first piece.
pub fn reconcile(appliance: &Appliance, deed: Deed) -> Result<Freed, StoreError> {
    free_noting(appliance, Lost::Expired, Some(deed))
}

fn free_noting(appliance: &Appliance, lost: Lost, deed: Option<Deed>) -> Result<Freed, StoreError> {
    let (ours, ttl) = (appliance.under_way.clone(), appliance.config.workers.claim_ttl);
    let first = move |tx: &Tx<'_>| {
        if let Some(deed) = &deed {
            audit::note(tx, deed)?;
        }
        stuck::free_batches(tx, lost)
    };
    let batches = appliance.store.write(first)?.len();
    let mut freed = Freed { rows: 0, batches };
    loop {
        let ours = ours.clone();
        let free = move |tx: &Tx<'_>| {
            ours.renew(tx, ttl)?;
            stuck::free_rows(tx, lost)
        };
        let rows = appliance.store.write(free)?.len();
        freed.rows += rows;
        if rows < stuck::FREED_AT_ONCE as usize {
            break;
        }
    }
    let reason = match lost {
        Lost::Expired => "expired",
        Lost::OfDeadServers(_) => "dead_server",
        Lost::OfOwner(_) => "shutdown",
    };
    appliance.metrics.rows.freed(reason, freed.rows, freed.batches);
    if freed != Freed::default() {
        tracing::warn!(event = "claims.freed", rows = freed.rows, batches = freed.batches, "lost claims were freed");
        appliance.work_bell.ring();
        appliance.extract_bell.ring();
    }
    Ok(freed)
}

/// Frees expired claims until the appliance closes.
pub fn watch(appliance: &Appliance) {
    while !appliance.closing.wait(EVERY) {
        if let Err(error) = free(appliance, Lost::Expired) {
            tracing::error!(event = "claims.not_freed", %error, "expired claims could not be freed");
        }
    }
}
