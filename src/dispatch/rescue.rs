//! Claims whose owner is gone or went silent are freed, so that nothing stays `processing` for ever.

use std::time::Duration;

use crate::{
    appliance::Appliance,
    store::{
        StoreError,
        stuck::{self, Lost},
    },
};

/// How often a server looks for expired claims.
const EVERY: Duration = Duration::from_secs(5);

/// What was freed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Rows that are `pending` again.
    pub rows: usize,
    /// Batches that will be extracted again.
    pub batches: usize,
}

/// Frees lost claims, in pieces that let other writes in between.
pub fn free(appliance: &Appliance, lost: Lost) -> Result<Freed, StoreError> {
    let batches = appliance.store.write(move |tx| stuck::free_batches(tx, lost))?.len();
    let mut freed = Freed { rows: 0, batches };
    loop {
        let rows = appliance.store.write(move |tx| stuck::free_rows(tx, lost))?.len();
        freed.rows += rows;
        if rows < stuck::FREED_AT_ONCE as usize {
            break;
        }
    }
    if freed != Freed::default() {
        tracing::warn!(rows = freed.rows, batches = freed.batches, "lost claims were freed");
        appliance.work_bell.ring();
        appliance.extract_bell.ring();
    }
    Ok(freed)
}

/// Frees expired claims until the appliance closes.
pub fn watch(appliance: &Appliance) {
    while !appliance.closing.wait(EVERY) {
        if let Err(error) = free(appliance, Lost::Expired) {
            tracing::error!(%error, "expired claims could not be freed");
        }
    }
}
