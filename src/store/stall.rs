//! Whether the database takes writes. The one writer knows, and whoever asks why nothing moves is told.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::error::StoreError;
use crate::model::Timestamp;

/// A write that takes no longer is no stall.
const LONGEST_WRITE: Duration = Duration::from_secs(1);
/// What failed last, and was not tried again for so long, says nothing any more of how the database is.
const BELIEVED: Duration = Duration::from_secs(5);

/// Why writes do not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Another process has locked the database.
    Locked,
    /// The disk has no room.
    DiskFull,
    /// The disk does not say that it has taken one.
    Slow,
    /// The log says what.
    Failing,
}

/// The database takes no writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub why: Why,
}

/// How the last writes fared.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Writes>);

#[derive(Debug, Default)]
struct Writes {
    /// The group that is being written: since when, and whether it has the lock.
    under_way: Option<(Instant, Timestamp, bool)>,
    /// Those before it failed: since when, why the last one did, and when that was.
    failed: Option<(Timestamp, Why, Instant)>,
}

impl Watch {
    /// A group is about to be written.
    pub(super) fn begins(&self, now: Timestamp) {
        self.lock().under_way = Some((Instant::now(), now, false));
    }

    /// It has the lock.
    pub(super) fn has_lock(&self) {
        if let Some((.., has_lock)) = &mut self.lock().under_way {
            *has_lock = true;
        }
    }

    /// It has ended, and what of it could not be written, could not for this reason.
    pub(super) fn ended(&self, failure: Option<Why>) {
        let mut writes = self.lock();
        let begun = writes.under_way.take().map(|(_, at, _)| at);
        writes.failed = failure.and_then(|why| {
            let since = writes.failed.map(|(since, ..)| since).or(begun)?;
            Some((since, why, Instant::now()))
        });
    }

    /// Why nothing can be written, where that is so.
    pub(super) fn stall(&self) -> Option<Stall> {
        let writes = self.lock();
        let lasts = |(begun, ..): &(Instant, _, _)| begun.elapsed() > LONGEST_WRITE;
        let under_way = writes.under_way.filter(lasts).map(|(_, since, has_lock)| {
            let why = if has_lock { Why::Slow } else { Why::Locked };
            Stall { since, why }
        });
        let is_believed = |(.., at): &(_, _, Instant)| under_way.is_some() || at.elapsed() < BELIEVED;
        let failed = writes.failed.filter(is_believed).map(|(since, why, _)| Stall { since, why });
        match (failed, under_way) {
            // It began before, and is what it is by now.
            (Some(failed), Some(now)) => Some(Stall { why: now.why, ..failed }),
            (failed, under_way) => failed.or(under_way),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Writes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a whole group failed; `is_out_of_room`: whether one of its operations found none, upon which SQLite may have given up
/// all of them.
pub(super) fn why(error: &StoreError, is_out_of_room: bool) -> Why {
    match error.cause() {
        StoreError::Busy => Why::Locked,
        StoreError::DiskFull => Why::DiskFull,
        _ if is_out_of_room => Why::DiskFull,
        _ => Why::Failing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_lasts_from_the_first_write_that_failed_until_one_gets_through() {
        let (watch, first) = (Watch::default(), Timestamp(1_000));
        watch.begins(first);
        assert_eq!(watch.stall(), None, "it has only begun");
        watch.ended(Some(Why::Locked));
        watch.begins(Timestamp(9_000));
        assert_eq!(watch.stall(), Some(Stall { since: first, why: Why::Locked }));
        watch.ended(Some(Why::DiskFull));
        assert_eq!(watch.stall(), Some(Stall { since: first, why: Why::DiskFull }));
        watch.begins(Timestamp(10_000));
        watch.ended(None);
        assert_eq!(watch.stall(), None);
    }

    #[test]
    fn what_another_operation_found_no_room_for_is_told_as_such() {
        assert_eq!(why(&StoreError::RolledBack, true), Why::DiskFull);
        assert_eq!(why(&StoreError::RolledBack, false), Why::Failing);
        assert_eq!(why(&StoreError::Busy, false), Why::Locked);
    }
}
