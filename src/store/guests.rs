//! Those who may not wait for the writer in any number.
//!
//! Whoever asks for a write holds a thread until it is on disk. Threads that have nothing else to do may wait as long as
//! it takes; those that serve callers are few, and shared with everybody who only wants to read. So only some of them
//! wait at once. One more waits for a place as long as places come free, which they do many times a second while the
//! writer writes; where it stands still, because somebody has locked the database, whoever comes is turned away at once.

use std::{
    cell::Cell,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::error::{Result, StoreError};

/// Guests that wait for the writer at once: more than half of them fit into one transaction's time on a slow disk, and
/// they are less than half of the threads that serve callers.
pub const GUESTS: usize = 12;
/// So long after a place last came free nobody waits for one any more.
const STANDSTILL: Duration = Duration::from_millis(200);

thread_local! {
    static IS_GUEST: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, whose writes are a guest's.
pub fn as_guest<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            IS_GUEST.set(self.0);
        }
    }
    let _before = Before(IS_GUEST.replace(true));
    work()
}

/// The places of guests.
pub(super) struct Places {
    state: Mutex<State>,
    freed: Condvar,
}

struct State {
    taken: usize,
    /// When a place last came free.
    freed_at: Instant,
}

/// A place that is taken until this is dropped.
pub(super) struct Place<'a>(&'a Places);

impl Default for Places {
    fn default() -> Self {
        Self { state: Mutex::new(State { taken: 0, freed_at: Instant::now() }), freed: Condvar::new() }
    }
}

impl Places {
    /// A place for a guest; nothing for anybody else, who needs none.
    pub(super) fn take(&self) -> Result<Option<Place<'_>>> {
        if !IS_GUEST.get() {
            return Ok(None);
        }
        let mut state = self.lock();
        if state.taken == 0 {
            state.freed_at = Instant::now();
        }
        while state.taken >= GUESTS {
            let left = (state.freed_at + STANDSTILL).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(StoreError::Crowded);
            }
            state = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.taken += 1;
        Ok(Some(Place(self)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.taken -= 1;
        state.freed_at = Instant::now();
        drop(state);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_beyond_their_places_are_turned_away_where_nothing_moves_and_others_never() {
        let places = Places::default();
        let held: Vec<_> = (0..GUESTS).map(|_| as_guest(|| places.take()).expect("a place")).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(matches!(as_guest(|| places.take().map(drop)), Err(StoreError::Crowded)));
        assert!(matches!(places.take(), Ok(None)), "who is no guest needs no place");
        drop(held);
        assert!(as_guest(|| places.take()).is_ok_and(|place| place.is_some()));
    }

    #[test]
    fn a_guest_gets_the_place_that_comes_free() {
        let places = Places::default();
        let mut held: Vec<_> = (0..GUESTS).map(|_| as_guest(|| places.take()).expect("a place")).collect();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| as_guest(|| places.take().is_ok_and(|place| place.is_some())));
            held.pop();
            assert!(waits.join().expect("no panic"));
        });
    }
}
