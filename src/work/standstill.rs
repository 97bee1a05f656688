//! Whether a row may still be called between its steps: not once its batch, its client or all dispatch is paused, or its
//! batch cancelled. Requests that are under way by then finish.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::store::{Store, StoreError, standstill};

/// For so long a command beside the server may go unnoticed. What the server does itself is noticed at once.
const REMEMBERED: Duration = Duration::from_millis(50);
/// What is older than this is found out anew by one of those who ask, while all go on by it: else everybody who asks in the
/// time that a look takes would look for themselves, and wait for it.
const RENEWED: Duration = Duration::from_millis(20);
/// Batches of which it is remembered; beyond that all are forgotten, and asked again.
const BATCHES: usize = 1_024;

/// What is known of the batches that are worked.
#[derive(Debug, Default)]
pub struct Standstill(Mutex<HashMap<i64, Known>>);

#[derive(Debug)]
struct Known {
    stands_still: bool,
    changes: u64,
    at: Instant,
    /// Somebody was told to look.
    is_renewed: bool,
}

/// What is remembered of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remembered {
    /// Whether its rows stand still.
    pub stands_still: bool,
    /// Whether it is the one who asked that is to find it out anew.
    pub is_to_look: bool,
}

impl Known {
    /// Nothing, where it is too old, or something was brought to a stand since.
    fn ask(&mut self, changes: u64, age: Duration) -> Option<Remembered> {
        if self.changes != changes || age >= REMEMBERED {
            return None;
        }
        let is_to_look = age >= RENEWED && !self.is_renewed;
        self.is_renewed |= is_to_look;
        Some(Remembered { stands_still: self.stands_still, is_to_look })
    }
}

impl Standstill {
    /// Whether rows of the batch stand still, where that was found out just now.
    pub(super) fn known(&self, batch: i64) -> Option<Remembered> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get_mut(&batch)?;
        known.ask(standstill::changes(), known.at.elapsed())
    }

    /// Whether rows of the batch stand still. Reads the database.
    pub(super) fn of_batch(&self, store: &Store, batch: i64) -> Result<bool, StoreError> {
        let (changes, at) = (standstill::changes(), Instant::now());
        let stands_still = store.read(move |connection| standstill::of_batch(connection, batch))?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= BATCHES {
            all.clear();
        }
        all.insert(batch, Known { stands_still, changes, at, is_renewed: false });
        Ok(stands_still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_looks_anew_while_all_go_on_and_what_is_too_old_or_was_changed_is_not_known() {
        let mut known = Known { stands_still: false, changes: 7, at: Instant::now(), is_renewed: false };
        let remembered = |is_to_look| Some(Remembered { stands_still: false, is_to_look });
        assert_eq!(known.ask(7, RENEWED / 2), remembered(false));
        assert_eq!([(); 3].map(|()| known.ask(7, RENEWED)), [true, false, false].map(remembered));
        assert_eq!((known.ask(8, Duration::ZERO), known.ask(7, REMEMBERED)), (None, None));
    }
}
