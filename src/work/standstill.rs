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
/// Batches of which it is remembered; beyond that all are forgotten, and asked again.
const BATCHES: usize = 1_024;

/// What is known of the batches that are worked.
#[derive(Debug, Default)]
pub struct Standstill(Mutex<HashMap<i64, Known>>);

#[derive(Debug, Clone, Copy)]
struct Known {
    stands_still: bool,
    changes: u64,
    at: Instant,
}

impl Known {
    fn is_fresh(&self, changes: u64) -> bool {
        self.changes == changes && self.at.elapsed() < REMEMBERED
    }
}

impl Standstill {
    /// Whether rows of the batch stand still, where that was found out just now.
    pub(super) fn known(&self, batch: i64) -> Option<bool> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&batch).copied();
        known.filter(|known| known.is_fresh(standstill::changes())).map(|known| known.stands_still)
    }

    /// Whether rows of the batch stand still. Reads the database.
    pub(super) fn of_batch(&self, store: &Store, batch: i64) -> Result<bool, StoreError> {
        let (changes, at) = (standstill::changes(), Instant::now());
        let stands_still = store.read(move |connection| standstill::of_batch(connection, batch))?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= BATCHES {
            all.clear();
        }
        all.insert(batch, Known { stands_still, changes, at });
        Ok(stands_still)
    }
}
