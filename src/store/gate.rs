//! The gate that readers pass: a checkpoint can hold it shut for an instant.
//!
//! The WAL begins again at its front only when nobody reads from it any more. While reads overlap without end there is
//! no such moment, and it grows for ever (<https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files>). So
//! there has to be one that is made: new reads wait, those under way end, and the WAL is cut.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A read waits no longer than this in front of a shut gate. It then goes in, and at worst the checkpoint fails.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Lets readers in, and counts them.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    inside: usize,
    is_shut: bool,
}

/// A reader inside. Dropped, it has left.
pub(super) struct Inside<'a>(&'a Gate);

/// A gate that is held shut. Dropped, it opens.
struct Shut<'a>(&'a Gate);

impl Gate {
    /// Goes in, after a wait where it is shut.
    pub(super) fn enter(&self) -> Inside<'_> {
        let until = Instant::now() + LONGEST_WAIT;
        let mut state = self.wait_while(until, |state| state.is_shut);
        state.inside += 1;
        Inside(self)
    }

    /// Shuts the gate, waits until all are out but not longer than `patience`, and runs `work`.
    pub(super) fn while_empty<T>(&self, patience: Duration, work: impl FnOnce() -> T) -> T {
        self.lock().is_shut = true;
        let _shut = Shut(self);
        drop(self.wait_while(Instant::now() + patience, |state| state.inside > 0));
        work()
    }

    fn wait_while(&self, until: Instant, waits: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let time = until.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(self.lock(), time, |state| waits(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.inside -= 1;
        if state.is_shut && state.inside == 0 {
            self.0.changed.notify_all();
        }
    }
}

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        self.0.lock().is_shut = false;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn who_is_inside_is_waited_for_and_who_comes_meanwhile_waits() {
        let gate = Gate::default();
        let first = gate.enter();
        let (events, happened) = channel();
        std::thread::scope(|scope| {
            let (checkpoint, reader) = (events.clone(), events.clone());
            let gate = &gate;
            scope.spawn(move || gate.while_empty(LONG, || checkpoint.send("checkpoint").expect("heard")));
            while !gate.lock().is_shut {
                std::thread::yield_now();
            }
            scope.spawn(move || {
                let _inside = gate.enter();
                reader.send("reader").expect("heard");
            });
            assert!(happened.try_recv().is_err(), "somebody is inside");
            drop(first);
            assert_eq!([happened.recv(), happened.recv()], [Ok("checkpoint"), Ok("reader")]);
        });
        assert_eq!(gate.lock().inside, 0);
    }

    #[test]
    fn a_reader_that_stays_is_not_waited_for_for_ever_and_the_gate_opens_again() {
        let gate = Gate::default();
        let _stays = gate.enter();
        assert_eq!(gate.while_empty(Duration::from_millis(1), || gate.lock().inside), 1);
        let _next = gate.enter();
        assert_eq!(gate.lock().inside, 2);
    }
}
