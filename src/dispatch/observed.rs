//! How the calls of each dependency went lately: how long they took, how many came to nothing, how many ended in a second.
//! What an estimate knows of an API beyond its limits. It stands between the calls and what counts them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    clock::Clock,
    downstream::{CallEnd, GateReason, Meter, WaitReason},
};

/// How much the latest call says of the latency, once some are known: a new latency is believed after a few.
const LEARN_LATENCY: f64 = 1.0 / 16.0;
/// How much it says of the share that has to be repeated: one in a hundred needs some hundred to be seen.
const LEARN_REPEATS: f64 = 1.0 / 64.0;
/// So many good calls are believed in before any is seen, so that the first failure is not taken for all there will be.
const PRIOR: f64 = 4.0;
/// Whole seconds that are looked back on for how many calls end in one.
const SECONDS: usize = 6;
/// Calls flow where some ended in each of so many seconds, the latest.
const FLOWING: usize = 4;
/// The busiest so many say what can be done in one: in the others something else may have been in the way.
const BUSIEST: usize = 3;
const SECOND_NS: i64 = 1_000_000_000;

/// What was seen, by dependency.
#[derive(Default)]
pub struct Observed(BTreeMap<String, Arc<Watch>>);

/// What was seen of one dependency.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Seen {
    /// How long a call takes, from its leaving to its end; `None` before the first one.
    pub latency: Option<Duration>,
    /// The share of calls after which the row has to make the same call again.
    pub repeats: f64,
    /// How many calls end in a second, where they flow.
    pub flow: Option<f64>,
}

impl Observed {
    /// Watches these dependencies, and passes on to `meter` what it is told.
    pub fn new<'d>(
        dependencies: impl Iterator<Item = &'d String>,
        clock: &Clock,
        meter: impl Fn(&str) -> Arc<dyn Meter>,
    ) -> Self {
        let watch = |name: &String| Watch { behind: meter(name), clock: clock.clone(), calls: Mutex::default() };
        Self(dependencies.map(|name| (name.clone(), Arc::new(watch(name)))).collect())
    }

    /// The meter of a dependency.
    pub fn meter(&self, dependency: &str) -> Arc<dyn Meter> {
        match self.0.get(dependency) {
            Some(watch) => watch.clone(),
            None => Arc::new(()),
        }
    }

    /// What was seen of it.
    pub fn of(&self, dependency: &str) -> Seen {
        self.0.get(dependency).map_or_else(Seen::default, |watch| watch.lock().seen(watch.clock.steady()))
    }
}

/// One dependency's.
struct Watch {
    behind: Arc<dyn Meter>,
    clock: Clock,
    calls: Mutex<Calls>,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter for Watch {
    fn permitted(&self, waited: Duration) {
        self.behind.permitted(waited);
    }

    fn turned_away(&self, why: WaitReason) {
        self.behind.turned_away(why);
    }

    fn called(&self, end: CallEnd, took: Duration) {
        self.lock().add(end, took, self.clock.steady());
        self.behind.called(end, took);
    }

    fn gate_closed(&self, reason: GateReason) {
        self.behind.gate_closed(reason);
    }
}

/// The arithmetic. It is told the time.
#[derive(Debug, Default)]
struct Calls {
    known: f64,
    latency: f64,
    repeats: f64,
    /// Ends by the second, the present one among them.
    ends: [u32; SECONDS + 1],
    /// The present second.
    second: i64,
}

impl Calls {
    fn add(&mut self, end: CallEnd, took: Duration, now: i64) {
        self.known += 1.0;
        self.latency += (took.as_secs_f64() - self.latency) * LEARN_LATENCY.max(1.0 / self.known);
        if let Some(comes_again) = comes_again(end) {
            let again = if comes_again { 1.0 } else { 0.0 };
            self.repeats += (again - self.repeats) * LEARN_REPEATS.max(1.0 / (self.known + PRIOR));
        }
        self.turn_to(now);
        self.ends[0] = self.ends[0].saturating_add(1);
    }

    fn turn_to(&mut self, now: i64) {
        let second = (now / SECOND_NS).max(self.second);
        let passed = usize::try_from(second - self.second).unwrap_or(usize::MAX).min(self.ends.len());
        self.ends.rotate_right(passed % (SECONDS + 1));
        self.ends[..passed].fill(0);
        self.second = second;
    }

    fn seen(&mut self, now: i64) -> Seen {
        self.turn_to(now);
        let mut whole: [u32; SECONDS] = [0; SECONDS];
        whole.copy_from_slice(&self.ends[1..]);
        let flows = whole[..FLOWING].iter().all(|ends| *ends > 0);
        whole.sort_unstable_by(|a, b| b.cmp(a));
        let busiest: u32 = whole[..BUSIEST].iter().sum();
        Seen {
            latency: (self.known > 0.0).then(|| Duration::from_secs_f64(self.latency.max(0.0))),
            repeats: self.repeats,
            flow: flows.then(|| f64::from(busiest) / BUSIEST as f64),
        }
    }
}

/// Whether a row makes the call again that ended so; where it does not, it goes on or has failed. `None` where a gate closes
/// for it: how many of those there are follows from the gate and not from how many rows there are.
fn comes_again(end: CallEnd) -> Option<bool> {
    match end {
        CallEnd::Success | CallEnd::Rejected | CallEnd::BadAnswer => Some(false),
        CallEnd::ServerError | CallEnd::Timeout | CallEnd::Connection => Some(true),
        CallEnd::RateLimited | CallEnd::Unauthorized | CallEnd::Unavailable => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn calls(ends: impl Iterator<Item = (i64, CallEnd, u64)>) -> Calls {
        let mut calls = Calls::default();
        ends.for_each(|(at, end, took)| calls.add(end, Duration::from_millis(took), at * MS));
        calls
    }

    #[test]
    fn the_latency_is_that_of_the_last_calls() {
        assert_eq!(Calls::default().seen(0), Seen::default());
        let mut first = calls([(0, CallEnd::Success, 300)].into_iter());
        assert_eq!(first.seen(0).latency, Some(Duration::from_millis(300)), "the first one is all that is known");
        let slower = (0..300).map(|at| (at, CallEnd::Success, if at < 200 { 100 } else { 1_000 }));
        let latency = calls(slower).seen(300 * MS).latency.expect("known").as_secs_f64();
        assert!((0.95..=1.0).contains(&latency), "{latency}");
    }

    #[test]
    fn repeats_are_the_share_that_came_to_nothing() {
        let mut one = calls([(0, CallEnd::Timeout, 1)].into_iter());
        assert!(one.seen(0).repeats <= 0.2, "one failure is not all there will be");
        let mut refused = calls([(0, CallEnd::Unavailable, 1), (0, CallEnd::RateLimited, 1)].into_iter());
        assert_eq!(refused.seen(0).repeats, 0.0, "that is the gate's");
        let half = (0..1_000).map(|at| (at, if at % 2 == 0 { CallEnd::ServerError } else { CallEnd::Rejected }, 1));
        let repeats = calls(half).seen(0).repeats;
        assert!((0.45..=0.55).contains(&repeats), "{repeats}");
    }

    #[test]
    fn calls_flow_where_some_end_in_every_second() {
        let even = |until: i64| calls((0..until / 20).map(|n| (n * 20, CallEnd::Success, 1)));
        assert_eq!(even(3_900).seen(3_900 * MS).flow, None, "four whole seconds are needed");
        assert_eq!(even(4_100).seen(4_100 * MS).flow, Some(50.0));
        assert_eq!(even(60_000).seen(60_000 * MS).flow, Some(50.0));
        assert_eq!(even(60_000).seen(61_500 * MS).flow, None, "a second without any");
        assert_eq!(even(60_000).seen(600_000 * MS).flow, None);
        let in_waves = calls((0..30).map(|n| (n * 2_000, CallEnd::Success, 2_000)));
        assert_eq!({ in_waves }.seen(60_000 * MS).flow, None);
    }
}
