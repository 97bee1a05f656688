//! When clients' keys were last used. That is told within a minute, so a use is gathered here and noted behind the requests:
//! one write a minute for a key at most, and none on a request's way.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Context, answer::blocking};
use crate::{model::Timestamp, operations::client_keys};

/// Between two writes of one key.
const EVERY: Duration = Duration::from_secs(60);

/// The uses since they were last noted, by the key in the database: only keys that are good get in.
#[derive(Default)]
pub struct KeyUses(Mutex<HashMap<i64, Use>>);

struct Use {
    at: Timestamp,
    is_noted: bool,
    /// When one was last noted, in steady nanoseconds.
    noted_at: Option<i64>,
}

impl KeyUses {
    /// A key is used.
    pub(super) fn used(&self, key: i64, at: Timestamp) {
        let mut uses = self.lock();
        let last = uses.entry(key).or_insert(Use { at, is_noted: false, noted_at: None });
        (last.at, last.is_noted) = (at, false);
    }

    /// What is to be noted at this steady time. What is old and noted is forgotten.
    fn take(&self, now: i64) -> Vec<(i64, Timestamp)> {
        let is_early = |noted_at: i64| now - noted_at < EVERY.as_nanos() as i64;
        let mut taken = Vec::new();
        self.lock().retain(|key, last| {
            if last.noted_at.is_some_and(is_early) {
                return true;
            }
            if !last.is_noted {
                taken.push((*key, last.at));
                (last.is_noted, last.noted_at) = (true, Some(now));
                return true;
            }
            false
        });
        taken
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Use>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes what is due; where the database takes nothing now, a minute later.
pub(super) async fn look(context: &Context) {
    let uses = context.door.key_uses.take(context.appliance.clock.steady());
    if uses.is_empty() {
        return;
    }
    let (appliance, noted) = (context.appliance.clone(), uses.clone());
    let written = blocking(move || Ok(client_keys::note_uses(&appliance.store, noted)?)).await;
    if written.is_err() {
        uses.into_iter().for_each(|(key, at)| context.door.key_uses.used(key, at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_noted_at_once_and_then_once_a_minute_with_its_last_use() {
        let (uses, minute) = (KeyUses::default(), EVERY.as_nanos() as i64);
        uses.used(1, Timestamp(10));
        uses.used(2, Timestamp(11));
        let mut first = uses.take(0);
        first.sort_unstable();
        assert_eq!(first, [(1, Timestamp(10)), (2, Timestamp(11))]);
        uses.used(1, Timestamp(20));
        uses.used(1, Timestamp(30));
        assert_eq!(uses.take(minute - 1), []);
        assert_eq!(uses.take(minute), [(1, Timestamp(30))], "the other one was not used again");
        assert_eq!(uses.lock().len(), 1, "and is forgotten");
        assert_eq!((uses.take(2 * minute), uses.lock().len()), (vec![], 0));
    }
}
