//! What dispatch runs come from: the built-in clock, or calls over HTTP, whose silence is noticed.
//!
//! A server without a clock of its own depends on somebody's CronJob, and nobody notices one that has stopped: no call
//! fails, rows just wait. So the calls are watched. When three that were expected are missing that is told, once, and
//! told again when calls come; where the configuration allows it, the built-in clock takes their place meanwhile. What
//! counts is that somebody calls, whatever comes of it: calls that are too early, or that find dispatch paused, are calls.
//!
//! A second clock does no harm. Two runs at once are one, and one that comes sooner than `min_interval` after the last
//! grants nothing ([`super::run`]).

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::run::Dispatcher;
use crate::{
    appliance::Appliance,
    clock::Clock,
    heartbeat,
    model::{AskedBy, Timestamp},
    store::{StoreError, grants},
};

/// So many runs that did not come are no chance any more.
pub const MISSING_RUNS: u32 = 3;
/// Between two looks at the silence: a tenth of what is expected, within these bounds.
const LOOKS_PER_CALL: u32 = 10;
const SHORTEST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// The built-in clock: a run each `every`, until the appliance closes. A restart is no reason for another one: the first run
/// comes `every` after the last one that there was.
pub fn tick(appliance: &Appliance, dispatcher: &Dispatcher, every: Duration) {
    let last = appliance.store.read(grants::last_run).ok().flatten();
    let first = last.map_or(Duration::ZERO, |run| left_of(every, run.at, appliance.clock.now()));
    heartbeat::rest(first);
    if appliance.closing.wait(first) {
        return;
    }
    loop {
        if let Err(error) = dispatcher.run(appliance, AskedBy::Clock, None) {
            tracing::error!(event = "dispatch.failed", %error, "the dispatch run failed; the next one comes by itself");
        }
        heartbeat::rest(every);
        if appliance.closing.wait(every) {
            return;
        }
    }
}

/// How long it is until `every` after the last run; never longer than that, since the clock may have been set back.
fn left_of(every: Duration, last: Timestamp, now: Timestamp) -> Duration {
    last.after(every).since(now).min(every)
}

/// How the calls are that ask for dispatch runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Calls {
    /// None are expected: the built-in clock runs, or this process is no server.
    #[default]
    NotExpected,
    /// The server has started not long ago, and none came since.
    Awaited,
    /// They come.
    Coming,
    /// At least [`MISSING_RUNS`] did not come.
    Missing {
        /// The last one that did, or the start of the server where none is known.
        since: Timestamp,
    },
}

/// What a server knows of the calls that it expects. Everybody may look; it costs a lock.
#[derive(Default)]
pub struct DispatchWatch(Mutex<Watched>);

#[derive(Default)]
struct Watched {
    calls: Calls,
    /// The last call, or the start of the server where none is known: what is told.
    last: Option<Timestamp>,
    /// What the silence is measured from, by steady time, which nobody sets back: the last call, or this start.
    quiet_from_ns: i64,
    /// Runs that the built-in clock made since calls are missing.
    taken_over: u32,
}

impl DispatchWatch {
    /// How the calls are now.
    pub fn calls(&self) -> Calls {
        self.lock().calls
    }

    /// Since when they are missing, where they are.
    pub fn missing_since(&self) -> Option<Timestamp> {
        match self.calls() {
            Calls::Missing { since } => Some(since),
            Calls::NotExpected | Calls::Awaited | Calls::Coming => None,
        }
    }

    /// Whether the built-in clock runs in place of calls that are missing.
    pub fn is_taken_over(&self) -> bool {
        self.lock().taken_over > 0
    }

    /// Notes a call.
    pub(super) fn called(&self, clock: &Clock) {
        let mut watched = self.lock();
        let before = watched.calls;
        if before == Calls::NotExpected {
            return;
        }
        let runs_taken_over = std::mem::take(&mut watched.taken_over);
        *watched =
            Watched { calls: Calls::Coming, last: Some(clock.now()), quiet_from_ns: clock.steady(), taken_over: 0 };
        drop(watched);
        if let Calls::Missing { since } = before {
            tracing::info!(event = "calls.came_again", missing_since = %since, runs_taken_over, "dispatch calls come again: they make the runs");
        }
    }

    /// From now on calls are expected. `last` is when one came to another server before this one.
    fn expect(&self, clock: &Clock, last: Option<Timestamp>) {
        let last = last.or_else(|| Some(clock.now()));
        *self.lock() = Watched { calls: Calls::Awaited, last, quiet_from_ns: clock.steady(), taken_over: 0 };
    }

    /// Notices a silence that is too long, and returns since when, once.
    fn look(&self, clock: &Clock, expect_every: Duration) -> Option<Timestamp> {
        let mut watched = self.lock();
        let quiet = Duration::from_nanos(clock.steady().saturating_sub(watched.quiet_from_ns).max(0) as u64);
        let is_heard = matches!(watched.calls, Calls::Awaited | Calls::Coming);
        if !is_heard || quiet <= expect_every.saturating_mul(MISSING_RUNS) {
            return None;
        }
        let since = watched.last?;
        watched.calls = Calls::Missing { since };
        Some(since)
    }

    fn note_taken_over(&self) {
        let mut watched = self.lock();
        // A call may have come while the run was made.
        if matches!(watched.calls, Calls::Missing { .. }) {
            watched.taken_over = watched.taken_over.saturating_add(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches the calls until the appliance closes, and takes their place where they are missing and that is allowed.
pub fn watch(appliance: &Appliance, dispatcher: &Dispatcher) {
    let settings = &appliance.config.dispatch;
    let (watch, every) = (&appliance.dispatch_watch, settings.expect_every);
    let look_every = (every / LOOKS_PER_CALL).clamp(SHORTEST_LOOK, LONGEST_LOOK);
    let mut next_run_ns = None;
    while !appliance.closing.wait(look_every) {
        heartbeat::beat();
        if let Some(since) = watch.look(&appliance.clock, every) {
            let (expected_every, take_over) = (crate::config::show_duration(every), settings.take_over);
            tracing::warn!(event = "calls.missing", %since, expected_every, take_over, "dispatch calls are missing");
            if take_over {
                tracing::warn!(
                    event = "dispatch.taken_over",
                    "the built-in clock makes the dispatch runs until calls come again"
                );
            }
        }
        if !settings.take_over || watch.missing_since().is_none() {
            next_run_ns = None;
            continue;
        }
        let now_ns = appliance.clock.steady();
        if next_run_ns.is_none_or(|due| due <= now_ns) {
            next_run_ns = Some(now_ns.saturating_add(i64::try_from(every.as_nanos()).unwrap_or(i64::MAX)));
            watch.note_taken_over();
            if let Err(error) = dispatcher.run(appliance, AskedBy::TakeOver, None) {
                tracing::error!(event = "dispatch.failed", %error, "the dispatch run failed; the next one comes by itself");
            }
        }
    }
}

/// Begins to expect calls. To be called before the server listens, so that none goes by unseen.
pub fn expect_calls(appliance: &Appliance) -> Result<(), StoreError> {
    let last = appliance.store.read(grants::last_called)?;
    appliance.dispatch_watch.expect(&appliance.clock, last);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_786_000_000_000);
    const EVERY: Duration = Duration::from_secs(60);

    fn expecting(last: Option<Timestamp>) -> (DispatchWatch, Clock) {
        let (watch, clock) = (DispatchWatch::default(), Clock::manual(START));
        watch.expect(&clock, last);
        (watch, clock)
    }

    #[test]
    fn the_first_run_comes_when_it_is_due_whatever_the_clock_says() {
        for (ago, left) in [(0, 60), (20, 40), (60, 0), (3_600, 0)] {
            assert_eq!(
                left_of(EVERY, START.before(Duration::from_secs(ago)), START),
                Duration::from_secs(left),
                "{ago}"
            );
        }
        assert_eq!(left_of(EVERY, START.after(Duration::from_secs(3_600)), START), EVERY, "it was set back");
    }

    #[test]
    fn three_calls_that_do_not_come_are_noticed_once_and_a_call_ends_it() {
        let (watch, clock) = expecting(None);
        assert_eq!((watch.calls(), watch.look(&clock, EVERY)), (Calls::Awaited, None));
        clock.advance(Duration::from_secs(180));
        assert_eq!(watch.look(&clock, EVERY), None, "the third may still come");
        watch.called(&clock);
        assert_eq!(watch.calls(), Calls::Coming);
        clock.advance(Duration::from_secs(181));
        let called_at = START.after(Duration::from_secs(180));
        assert_eq!(watch.look(&clock, EVERY), Some(called_at));
        assert_eq!((watch.look(&clock, EVERY), watch.missing_since()), (None, Some(called_at)), "told once");
        watch.note_taken_over();
        assert!(watch.is_taken_over());
        watch.called(&clock);
        assert_eq!((watch.calls(), watch.is_taken_over()), (Calls::Coming, false));
    }

    #[test]
    fn a_server_that_was_down_gives_calls_their_time_and_tells_of_the_last_one_that_came() {
        let before = START.before(Duration::from_secs(3_600));
        let (watch, clock) = expecting(Some(before));
        assert_eq!(watch.look(&clock, EVERY), None);
        clock.advance(Duration::from_secs(181));
        assert_eq!(watch.look(&clock, EVERY), Some(before));
    }

    #[test]
    fn a_wall_clock_that_is_set_is_no_silence() {
        let (watch, clock) = expecting(None);
        clock.set_wall(START.after(Duration::from_secs(86_400)));
        assert_eq!((watch.look(&clock, EVERY), watch.calls()), (None, Calls::Awaited));
    }

    #[test]
    fn where_no_calls_are_expected_none_are_missing() {
        let (watch, clock) = (DispatchWatch::default(), Clock::manual(START));
        clock.advance(Duration::from_secs(86_400));
        watch.called(&clock);
        assert_eq!((watch.look(&clock, EVERY), watch.calls()), (None, Calls::NotExpected));
    }
}
