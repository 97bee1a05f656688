//! Calls that rows were claimed for and did not make: their way ended before. Whoever shares out the calls has them back.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// By client, and by the version and step from which on nothing was called: of how many rows.
pub type Rows = HashMap<(i64, i64, u32), u32>;

/// What was not spent since it was last asked for.
#[derive(Debug, Default)]
pub struct Unspent(Mutex<Rows>);

impl Unspent {
    /// A row of this client and version made no call from `step` on.
    pub(super) fn note(&self, client: i64, version: i64, step: u32) {
        *self.lock().entry((client, version, step)).or_default() += 1;
    }

    /// All of it, once.
    pub fn take(&self) -> Rows {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
