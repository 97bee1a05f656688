//! Whose turn it is: the rows that wait for a worker.
//!
//! A condition variable of one's own wakes a thread, by a call of the kernel, only where one waits: while there is
//! work enough no worker sleeps, and none is called.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{noting::Noting, pool::Job};
use crate::{
    downstream::Reservation,
    store::{Held, StoreError},
};

/// What a worker turns to.
pub(super) enum Turn {
    /// A row that was claimed.
    Begin(Job),
    /// One that goes on: its next request is noted.
    GoOn(Noted),
}

/// A row whose note was written, or not.
pub(super) struct Noted {
    pub(super) noting: Box<Noting>,
    pub(super) reservation: Reservation,
    /// What became of the note.
    pub(super) held: Result<Held, StoreError>,
}

/// The queue. It is bounded by the rows that the pool lets be under way.
#[derive(Default)]
pub(super) struct Turns {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    claimed: VecDeque<Job>,
    noted: VecDeque<Noted>,
    /// Rows that the noter has: they come back.
    being_noted: usize,
    sleepers: usize,
    is_closed: bool,
}

impl Turns {
    /// The next turn; nothing when the queue is closed and no row comes any more. Rows that have begun go first.
    pub(super) fn next(&self) -> Option<Turn> {
        let mut waiting = self.lock();
        loop {
            if let Some(noted) = waiting.noted.pop_front() {
                return Some(Turn::GoOn(noted));
            }
            if let Some(job) = waiting.claimed.pop_front() {
                return Some(Turn::Begin(job));
            }
            if waiting.is_closed && waiting.being_noted == 0 {
                return None;
            }
            waiting.sleepers += 1;
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.sleepers -= 1;
        }
    }

    /// Rows were claimed.
    pub(super) fn begin(&self, jobs: Vec<Job>) {
        let mut waiting = self.lock();
        let rows = jobs.len();
        waiting.claimed.extend(jobs);
        self.wake(waiting, rows);
    }

    /// A row goes to the noter, and comes back.
    pub(super) fn lend(&self) {
        self.lock().being_noted += 1;
    }

    /// Rows come back from the noter.
    pub(super) fn give_back(&self, noted: Vec<Noted>) {
        let mut waiting = self.lock();
        let rows = noted.len();
        waiting.being_noted -= rows;
        waiting.noted.extend(noted);
        // With the last row that comes back after the end, all who wait for it may go.
        let wakes = if waiting.is_closed { usize::MAX } else { rows };
        self.wake(waiting, wakes);
    }

    /// No row is claimed any more.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        self.wake(waiting, usize::MAX);
    }

    fn wake(&self, waiting: MutexGuard<'_, Waiting>, rows: usize) {
        let sleepers = waiting.sleepers;
        drop(waiting);
        if sleepers <= rows && sleepers > 0 {
            self.changed.notify_all();
        } else {
            (0..rows.min(sleepers)).for_each(|_| self.changed.notify_one());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
