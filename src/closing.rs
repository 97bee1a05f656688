//! Shutdown, as every thread sees it.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Open until it is closed once, by a signal or a fault. Clones are the same.
#[derive(Clone, Default)]
pub struct Closing(Arc<(Mutex<bool>, Condvar)>);

impl Closing {
    /// Begins the end: every wait returns.
    pub fn close(&self) {
        let (closed, condition) = &*self.0;
        *closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        condition.notify_all();
    }

    /// Whether the end has begun.
    pub fn is_closed(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end, for `longest` at most; whether it has begun.
    pub fn wait(&self, longest: Duration) -> bool {
        let (closed, condition) = &*self.0;
        let guard = closed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = condition.wait_timeout_while(guard, longest, |closed| !*closed);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
