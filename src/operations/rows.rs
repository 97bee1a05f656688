//! Somebody looks at a row's values, or works it by hand.

use super::Actor;
use crate::{
    appliance::Appliance,
    model::{BatchId, RowId, RowRef},
    store::{
        Store, StoreError, audit,
        batches::Batch,
        claims::{self, Claimant, ClaimedRow, NotClaimed},
    },
};

/// Notes that somebody looks at what is masked of a batch, or of one row of it: on disk before anything is shown. Blocks.
pub fn reveal(store: &Store, actor: &Actor, batch: BatchId, row: Option<u32>) -> Result<(), StoreError> {
    let deed = match row {
        Some(number) => actor.deed("row.reveal", RowRef { batch, number }.to_string(), None),
        None => actor.deed("batch.reveal", batch.to_string(), None),
    };
    super::note(store, deed)
}

/// Claims a row for whoever asks, whatever is paused or granted; `resend` also one whose outcome is unknown. Blocks.
pub fn claim(
    appliance: &Appliance,
    actor: &Actor,
    batch: &Batch,
    row: RowRef,
    resend: bool,
) -> Result<Result<ClaimedRow, NotClaimed>, StoreError> {
    let id = RowId::new(batch.batch, row.number);
    let expires_at = appliance.clock.now().after(appliance.config.workers.claim_ttl);
    let claimant = Claimant { owner: appliance.owner, expires_at };
    let deed = actor.deed(if resend { "row.resend" } else { "row.run" }, row.to_string(), None);
    appliance.store.write(move |tx| {
        let claimed = claims::claim_one(tx, id, claimant, resend)?;
        if claimed.is_ok() {
            audit::note(tx, &deed)?;
        }
        Ok(claimed)
    })
}
