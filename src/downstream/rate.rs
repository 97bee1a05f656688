//! How fast a dependency may be called: slots on a line of steady nanoseconds. Pure arithmetic: no clock, no lock, no
//! store.

use super::ledger::{Lease, LeaseAsk};

/// A mark further ahead than this, and than [`LEASES_AHEAD`] leases of the asked size, is no mark of a sane clock.
const FAR_AHEAD_NS: i64 = 10 * SECOND_NS;
/// How many leases of the same size processes may hold in front of an asker before its clock is doubted.
const LEASES_AHEAD: i64 = 64;
const SECOND_NS: i64 = 1_000_000_000;

/// The next stretch of a line whose mark is `old` (the boot it was set under, and the end of the last lease).
///
/// - An idle line begins again at `floor`; a busy one goes on at its mark, however far ahead that is.
/// - Where the machine was started anew since, or the mark lies further ahead than any number of leases could have
///   moved it, the times cannot be compared. The line then begins after one whole second (one whole slot, where that
///   is longer), so that no window can hold both what was released before and what is released after.
pub fn advance(old: Option<(&str, i64)>, ask: &LeaseAsk) -> Lease {
    let length = ask.spacing_ns.saturating_mul(i64::from(ask.slots.max(1)));
    let start = match old {
        None => ask.floor,
        Some((boot, mark)) if boot != &*ask.boot || mark > far_ahead(ask.now, length) => {
            ask.now.saturating_add(ask.spacing_ns.max(SECOND_NS))
        }
        Some((_, mark)) if mark < ask.floor_reset => ask.floor,
        Some((_, mark)) => mark,
    };
    Lease { start, end: start.saturating_add(length) }
}

fn far_ahead(now: i64, length: i64) -> i64 {
    now.saturating_add(length.saturating_mul(LEASES_AHEAD).max(FAR_AHEAD_NS))
}
