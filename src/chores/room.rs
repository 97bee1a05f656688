//! Room that deleted batches took in the database's file: given back to the disk, in small steps.
//!
//! A step moves pages from the end of the file into the place of free ones, and what else is to be written goes between
//! two of them. How much is left to do stands in the file itself, so it goes on wherever it was broken off.

use std::time::Duration;

use crate::{
    appliance::Appliance,
    crash_point::crash_point,
    store::{StoreError, upkeep},
};

/// Free pages that stay in the file (1 MiB): whatever is written next takes those.
const PAGES_KEPT: u32 = 256;
/// Free pages that one transaction gives back, and the pause behind each.
const PAGES_AT_ONCE: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);
/// Steps that one look takes on (80 MB); other chores go between, and the rest follows in the next.
const STEPS_AT_ONCE: u32 = 100;

/// Gives some of the free pages back; whether there are more.
pub(super) fn give_back(appliance: &Appliance) -> Result<bool, StoreError> {
    if appliance.store.read(upkeep::free_pages)? <= PAGES_KEPT {
        return Ok(false);
    }
    for _ in 0..STEPS_AT_ONCE {
        let left = appliance.store.write(|tx| upkeep::give_back_pages(tx, PAGES_AT_ONCE))?;
        crash_point("room.between_steps");
        if left <= PAGES_KEPT {
            // The file gets shorter when the WAL goes back into it. Where a reader is in the way, that comes later.
            appliance.store.truncate_wal()?;
            return Ok(false);
        }
        if appliance.closing.wait(PAUSE) {
            return Ok(false);
        }
    }
    Ok(true)
}
