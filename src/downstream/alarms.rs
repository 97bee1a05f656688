//! Alarms: who waits for a slot is woken at its time. A runtime's own timers come up to a millisecond late, which is more than
//! a slot of a fast dependency may be used after its time; a parked thread wakes within some dozens of microseconds.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, binary_heap::PeekMut},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::heartbeat::{self, Heartbeats};

/// How often the thread gives a sign of life, whatever there is to wake.
const BEAT: Duration = Duration::from_secs(10);

/// Wakes at a time. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Alarms(Arc<Mutex<Set>>);

#[derive(Default)]
struct Set {
    /// The earliest first. One that nobody needs any more stays until its time: it wakes nobody.
    waiting: BinaryHeap<Reverse<Alarm>>,
    thread: Option<thread::Thread>,
    is_closed: bool,
}

struct Alarm {
    at: Instant,
    whom: Arc<Notify>,
}

/// By their time.
impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Alarm {}

/// The thread that wakes. Dropped, it ends.
pub(super) struct AlarmClock {
    alarms: Alarms,
    thread: Option<JoinHandle<()>>,
}

impl Alarms {
    /// Notifies `whom` at this time.
    pub(super) fn set(&self, at: Instant, whom: &Arc<Notify>) {
        let mut set = self.lock();
        let is_next = set.waiting.peek().is_none_or(|Reverse(next)| at < next.at);
        set.waiting.push(Reverse(Alarm { at, whom: whom.clone() }));
        let thread = set.thread.clone().filter(|_| is_next);
        drop(set);
        if let Some(thread) = thread {
            thread.unpark();
        }
    }

    /// Starts the thread.
    pub(super) fn start(&self, hearts: &Heartbeats) -> io::Result<AlarmClock> {
        let (alarms, heart) = (self.clone(), hearts.register("alarms", heartbeat::LONGEST));
        let thread = thread::Builder::new().name("alarms".to_owned()).spawn(move || {
            heart.settle_in();
            while let Some(sleep) = alarms.wake_who_is_due() {
                heartbeat::beat();
                thread::park_timeout(sleep);
            }
        })?;
        self.lock().thread = Some(thread.thread().clone());
        // It may have slept before it was known whom to wake for an earlier alarm.
        thread.thread().unpark();
        Ok(AlarmClock { alarms: self.clone(), thread: Some(thread) })
    }

    /// How long to sleep then; nothing once it is closed.
    fn wake_who_is_due(&self) -> Option<Duration> {
        let mut set = self.lock();
        if set.is_closed {
            return None;
        }
        let now = Instant::now();
        while let Some(due) = set.waiting.peek_mut().filter(|next| next.0.at <= now) {
            PeekMut::pop(due).0.whom.notify_one();
        }
        Some(set.waiting.peek().map_or(BEAT, |Reverse(next)| next.at.saturating_duration_since(now).min(BEAT)))
    }

    fn lock(&self) -> MutexGuard<'_, Set> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AlarmClock {
    fn drop(&mut self) {
        self.alarms.lock().is_closed = true;
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_is_woken_in_time_and_an_earlier_alarm_is_not_slept_through() {
        let alarms = Alarms::default();
        let clock = alarms.start(&Heartbeats::default()).expect("a thread");
        let begun = Instant::now();
        let [late, early] = [Arc::new(Notify::new()), Arc::new(Notify::new())];
        alarms.set(begun + Duration::from_millis(80), &late);
        alarms.set(begun + Duration::from_millis(20), &early);
        early.notified().await;
        assert!(begun.elapsed() >= Duration::from_millis(20));
        late.notified().await;
        assert!(begun.elapsed() >= Duration::from_millis(80));
        drop(clock);
        assert_eq!(alarms.lock().waiting.len(), 0);
    }
}
