//! Claims whose owner is gone or went silent are freed, so that nothing stays `processing` for ever. Those of this process's
//! own workers are renewed before.

use std::time::{Duration, Instant};

use crate::{
    appliance::Appliance,
    heartbeat,
    model::Timestamp,
    store::{
        StoreError, Tx,
        audit::{self, Deed},
        stuck::{self, Lost},
    },
};

/// How often a server looks for expired claims.
const EVERY: Duration = Duration::from_secs(5);
/// How often it renews those of its own workers while they last, where that is oftener.
const RENEWALS: u32 = 3;

/// How often it is looked, at the end, whether the last row is settled.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Beside what is renewed regularly: a thread may get its turn late.
const LATE: Duration = Duration::from_secs(1);

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

/// Frees what servers held that are gone, and forgets them: there is one server for each data folder, and that is this one.
pub fn free_of_dead_servers(appliance: &Appliance) -> Result<(), StoreError> {
    let me = appliance.owner;
    free(appliance, Lost::OfDeadServers(me))?;
    appliance.store.write(move |tx| stuck::forget_dead_servers(tx, me))
}

/// Frees claims that had expired by then because somebody says so, which is noted with the first piece.
pub fn reconcile(appliance: &Appliance, by: Timestamp, deed: Deed) -> Result<Freed, StoreError> {
    free_noting(appliance, Lost::ExpiredBy(by), Some(deed))
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
        Lost::Expired | Lost::ExpiredBy(_) => "expired",
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

/// A claim that had expired so long ago, and was not renewed since, is held by no server that runs: whoever is another process
/// waits for that before it frees it.
pub fn renewed_within(ttl: Duration) -> Duration {
    renewed_every(ttl) * 2 + LATE
}

/// Between two renewals of what a server has in hand.
fn renewed_every(ttl: Duration) -> Duration {
    EVERY.min(ttl / RENEWALS)
}

/// Renews the claims of this server's own workers, and frees expired ones where that is its task, until the appliance closes
/// and the last row is settled.
pub fn watch(appliance: &Appliance) {
    let workers = &appliance.config.workers;
    let every = renewed_every(workers.claim_ttl);
    let mut looked_at = Instant::now();
    loop {
        let is_closed = appliance.closing.wait(every);
        if is_closed && appliance.under_way.is_empty() {
            return;
        }
        heartbeat::beat();
        let looks = workers.auto_rescue && !is_closed && looked_at.elapsed() >= EVERY;
        let done = if looks { free(appliance, Lost::Expired).map(drop) } else { renew(appliance) };
        if looks {
            looked_at = Instant::now();
        }
        if let Err(error) = done {
            tracing::error!(event = "claims.not_freed", %error, "claims could not be renewed, nor expired ones be freed");
        }
        if is_closed {
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }
}

fn renew(appliance: &Appliance) -> Result<(), StoreError> {
    let (ours, ttl) = (appliance.under_way.clone(), appliance.config.workers.claim_ttl);
    if !ours.has_expiring(appliance.clock.now(), ttl) {
        return Ok(());
    }
    appliance.store.write(move |tx| ours.renew(tx, ttl))
}
