//! Counts of batches that do not fit their rows: looked for at the start and every few minutes, and counted anew.
//!
//! Whoever moves a count looks whether it can be right; what is found here is what cannot be seen from the counts alone,
//! and a batch that nobody moves because its counts say that there is nothing to do.

use std::time::{Duration, Instant};

use crate::{
    appliance::Appliance,
    store::{StoreError, counts},
};

/// Between two looks at all unfinished batches.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// Batches that one read looks at: each takes a few look-ups.
const BATCHES_AT_ONCE: u32 = 500;

/// When it is looked for them next.
#[derive(Default)]
pub(super) struct NextLook(Option<Instant>);

/// Looks through all unfinished batches, where it is time to, and mends those that it finds.
pub(super) fn mend(appliance: &Appliance, next: &mut NextLook) -> Result<(), StoreError> {
    if next.0.is_some_and(|next| Instant::now() < next) {
        return Ok(());
    }
    let mut after = 0;
    while !appliance.closing.is_closed() {
        let (misfits, last) = appliance.store.read(|connection| counts::misfits(connection, after, BATCHES_AT_ONCE))?;
        for batch in misfits {
            appliance.store.write(move |tx| counts::mend(tx, batch))?;
            appliance.work_bell.ring();
        }
        let Some(last) = last else { break };
        after = last;
    }
    next.0 = Some(Instant::now() + EVERY);
    Ok(())
}
