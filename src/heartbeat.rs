//! Signs of life of the threads that a server cannot do without. A panic ends the process by itself ([`crate::panics`]);
//! what is noticed here is a thread that hangs, or that has ended without a word.
//!
//! A thread has a heart of its own, which beats with each answer of the database and wherever else its loop says so. It
//! never sleeps for long without saying for how long, so a heart that is silent for much longer than that has stopped.
//! Liveness is for what a restart mends, and a restart in vain is an outage: the times are generous. What is slow (a
//! database that somebody has locked, a bucket that is out of reach, a full disk) beats between two tries.

use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::crash_point::{crash_point, is_asked_for};

/// How long a heart may be silent where nothing else is said: many times what the slowest piece of work takes, which is a
/// transaction on a disk that has to be waited for, or an attempt at a receiver that hangs.
pub const LONGEST: Duration = Duration::from_secs(5 * 60);
/// The point under which a test has no such patience, and the share of it that it has.
const HURRIED: (&str, u32) = ("heartbeat.hurried", 100);

thread_local! {
    /// The heart of this thread.
    static MINE: RefCell<Option<Heart>> = const { RefCell::new(None) };
}

/// All hearts of a process. Clones are the same.
#[derive(Clone, Default)]
pub struct Heartbeats(Arc<Mutex<Vec<Heart>>>);

/// A heart. Clones are the same.
#[derive(Clone)]
pub struct Heart(Arc<Beats>);

struct Beats {
    name: String,
    /// Where a test can let the thread hang or panic.
    point: String,
    longest: Duration,
    begun: Instant,
    /// When the next beat is due at the latest, in milliseconds since it has begun.
    due_ms: AtomicU64,
}

impl Heartbeats {
    /// A heart that is never silent for longer than this, from now on.
    pub fn register(&self, name: &str, longest: Duration) -> Heart {
        let (name, point) = (name.to_owned(), format!("beat.{name}"));
        let longest = if is_asked_for(HURRIED.0) { longest / HURRIED.1 } else { longest };
        let beats = Beats { name, point, longest, begun: Instant::now(), due_ms: AtomicU64::new(0) };
        let heart = Heart(Arc::new(beats));
        heart.due_after(Duration::ZERO);
        self.lock().push(heart.clone());
        heart
    }

    /// The names of those that should have beaten by now, and have not.
    pub fn stalled(&self, now: Instant) -> Vec<String> {
        let stalled = |heart: &&Heart| heart.is_stalled(now);
        self.lock().iter().filter(stalled).map(|heart| heart.0.name.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Heart>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heart {
    /// Makes it the heart of the thread that calls this.
    pub fn settle_in(self) {
        MINE.set(Some(self));
    }

    /// A sign of life.
    pub fn beat(&self) {
        crash_point(&self.0.point);
        self.due_after(Duration::ZERO);
    }

    /// A sign of life before a sleep, which is no silence.
    pub fn rest(&self, sleep: Duration) {
        crash_point(&self.0.point);
        self.due_after(sleep);
    }

    fn due_after(&self, sleep: Duration) {
        let due = self.0.begun.elapsed().saturating_add(sleep).saturating_add(self.0.longest);
        self.0.due_ms.store(u64::try_from(due.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn is_stalled(&self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.0.begun).as_millis();
        since > u128::from(self.0.due_ms.load(Ordering::Relaxed))
    }
}

/// A sign of life of the thread that calls this, if it has a heart.
pub fn beat() {
    MINE.with_borrow(|mine| mine.iter().for_each(Heart::beat));
}

/// The same before a sleep.
pub fn rest(sleep: Duration) {
    MINE.with_borrow(|mine| mine.iter().for_each(|heart| heart.rest(sleep)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_heart_that_is_silent_for_too_long_has_stopped_and_a_sleep_is_no_silence() {
        let hearts = Heartbeats::default();
        let (writer, clock) = (hearts.register("writer", LONG), hearts.register("clock", LONG));
        let later = |by: Duration| Instant::now() + by;
        assert_eq!(hearts.stalled(later(LONG / 2)), [""; 0]);
        clock.rest(3 * LONG);
        assert_eq!(hearts.stalled(later(2 * LONG)), ["writer"]);
        assert_eq!(hearts.stalled(later(5 * LONG)), ["writer", "clock"]);
        clock.beat();
        assert_eq!(hearts.stalled(later(2 * LONG)), ["writer", "clock"], "the sleep is over");
        drop(writer);
        assert_eq!(hearts.stalled(later(2 * LONG)).len(), 2, "a thread that ended is not forgotten");
    }

    #[test]
    fn a_thread_beats_with_its_own_heart_and_one_without_a_heart_does_not_mind() {
        let hearts = Heartbeats::default();
        hearts.register("mine", Duration::ZERO).settle_in();
        rest(LONG);
        assert_eq!(hearts.stalled(Instant::now()), [""; 0]);
        std::thread::spawn(beat).join().expect("nothing to beat");
        beat();
        assert_eq!(hearts.stalled(Instant::now() + LONG / 2), ["mine"]);
    }
}
