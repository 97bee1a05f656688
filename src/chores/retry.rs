//! The rest of a retry: failed rows are put back piece by piece, and are claimed as they come.

use super::AT_ONCE;
use crate::{
    appliance::Appliance,
    crash_point::crash_point,
    store::{StoreError, retries},
};

/// Carries every retry on by one piece, in turn, until nothing is left of any.
pub(super) fn carry_on(appliance: &Appliance) -> Result<(), StoreError> {
    while !appliance.closing.is_closed() {
        let under_way = appliance.store.read(|connection| retries::under_way(connection, AT_ONCE))?;
        if under_way.is_empty() {
            break;
        }
        for retry in under_way {
            appliance.store.write(move |tx| retries::carry_on_by_number(tx, retry))?;
            appliance.work_bell.ring();
            crash_point("retry.between_pieces");
        }
    }
    Ok(())
}
