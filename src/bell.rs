//! A bell: how one thread tells another that there may be something to do.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Rings are never lost and never pile up: a wait that begins after a ring returns at once, and takes all rings with
/// it. Clones are the same bell.
#[derive(Clone, Default)]
pub struct Bell(Arc<(Mutex<bool>, Condvar)>);

impl Bell {
    /// Wakes whoever waits, or the next to do so.
    pub fn ring(&self) {
        let (rung, condition) = &*self.0;
        // Waking costs a call of the kernel, even where nobody waits: who rang first has done it for all.
        let was_rung = std::mem::replace(&mut *rung.lock().unwrap_or_else(PoisonError::into_inner), true);
        if !was_rung {
            condition.notify_one();
        }
    }

    /// Returns when the bell was rung since the last wait, and after `longest` at the latest.
    pub fn wait(&self, longest: Duration) {
        let (rung, condition) = &*self.0;
        let guard = rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = condition.wait_timeout_while(guard, longest, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_before_the_wait_counts() {
        let bell = Bell::default();
        bell.ring();
        bell.ring();
        let forever = Duration::from_secs(3600);
        bell.wait(forever);
        let other = bell.clone();
        let ringer = std::thread::spawn(move || other.ring());
        bell.wait(forever);
        ringer.join().expect("the ringer");
    }
}
