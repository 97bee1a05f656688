//! How fast a dependency lets calls through: by its rate, by its answers, and by what was seen of both.

use crate::{downstream::GateReason, model::Timestamp};

/// A row is not tried more often than this, whatever share of the calls fails: it has failed before.
const MOST_TRIES: f64 = 5.0;

/// How fast a dependency may be called, and how it answers.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Calls a second that may leave.
    pub per_second: f64,
    /// Calls that may be under way at once.
    pub places: u32,
    /// Seconds that a call takes; 0 where none was seen.
    pub latency: f64,
    /// The share of calls that have to be made again.
    pub repeats: f64,
    /// Calls a second that ended lately, where more of them waited to be made.
    pub flow: Option<f64>,
    /// Until when its gate is closed, and why.
    pub closed: Option<(Timestamp, GateReason)>,
}

/// What it is that lets no more through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The rate.
    Rate,
    /// Its latency, with so few places.
    Places,
    /// What there is of either was not used up, although there was work.
    Flow,
}

/// What gets through.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    /// Calls a second.
    pub per_second: f64,
    /// And why not more.
    pub limit: Limit,
}

impl Pace {
    /// With nothing seen of it.
    pub fn unseen(per_second: f64, places: u32) -> Self {
        Self { per_second, places, latency: 0.0, repeats: 0.0, flow: None, closed: None }
    }

    /// How often a call is made on average until the row goes on.
    pub fn tries(&self) -> f64 {
        1.0 / (1.0 - self.repeats).max(1.0 / MOST_TRIES)
    }

    /// Seconds that a row spends with one step of it.
    pub fn step_takes(&self) -> f64 {
        self.latency * self.tries()
    }

    /// What gets through. Little's law: as many as there are places, once for each latency.
    pub fn throughput(&self) -> Throughput {
        let mut slowest = Throughput { per_second: self.per_second, limit: Limit::Rate };
        if self.latency > 0.0 {
            slowest.yield_to(f64::from(self.places.max(1)) / self.latency, Limit::Places);
        }
        if let Some(flow) = self.flow {
            slowest.yield_to(flow, Limit::Flow);
        }
        slowest
    }

    /// What gets through, in one sentence behind its name.
    pub fn told(&self) -> String {
        let Throughput { per_second, limit } = self.throughput();
        match limit {
            Limit::Rate => format!("allows {} a second", counted(without_arithmetic(per_second), "call")),
            Limit::Places => format!(
                "takes {} to answer, and no more than {} to it may be under way at once",
                short(self.latency),
                counted(self.places.into(), "request")
            ),
            Limit::Flow => format!("gets {} a second through", counted(rounded(per_second), "call")),
        }
    }
}

impl Throughput {
    fn yield_to(&mut self, per_second: f64, limit: Limit) {
        // What was seen of a rate that is used up lies next to it.
        let margin = if limit == Limit::Flow { 0.8 } else { 1.0 };
        if per_second < self.per_second * margin {
            *self = Self { per_second, limit };
        }
    }
}

/// `1 call`, `2.5 calls`.
pub fn counted(number: f64, noun: &str) -> String {
    if number == 1.0 { format!("{number} {noun}") } else { format!("{number} {noun}s") }
}

/// A rate as it was set, or three decimals of one that came of reckoning.
fn without_arithmetic(rate: f64) -> f64 {
    (rate * 1_000.0).round() / 1_000.0
}

/// Two digits that count, for a person.
fn rounded(number: f64) -> f64 {
    let unit = 10_f64.powf(number.max(0.01).log10().floor() - 1.0);
    let rounded = (number / unit).round() * unit;
    without_arithmetic(rounded)
}

/// A short time, for a person: `300 ms`, `2.1 s`.
pub fn short(seconds: f64) -> String {
    if seconds < 1.0 { format!("{} ms", rounded(seconds * 1_000.0)) } else { format!("{} s", rounded(seconds)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_least_is_what_gets_through() {
        let says = |pace: Pace| (pace.throughput().per_second, pace.told());
        let unseen = Pace::unseen(50.0, 16);
        assert_eq!(says(unseen), (50.0, "allows 50 calls a second".to_owned()));
        let learnt = Pace { per_second: 4.258_749_999_999_999, ..unseen };
        assert_eq!(says(learnt).1, "allows 4.259 calls a second");
        assert_eq!(says(Pace { latency: 0.3, ..unseen }).0, 50.0, "16 places are enough for it");
        let slow = "takes 2.1 s to answer, and no more than 16 requests to it may be under way at once";
        assert_eq!(says(Pace { latency: 2.12, ..unseen }), (16.0 / 2.12, slow.to_owned()));
        assert_eq!(says(Pace { flow: Some(47.0), ..unseen }).0, 50.0, "the rate, as it is seen");
        assert_eq!(says(Pace { flow: Some(12.34), ..unseen }), (12.34, "gets 12 calls a second through".to_owned()));
        assert_eq!(says(Pace { flow: Some(0.0), latency: 0.1, ..unseen }).0, 0.0);
    }

    #[test]
    fn repeats_are_more_calls_and_never_without_end() {
        let with = |repeats| Pace { repeats, latency: 0.1, ..Pace::unseen(1.0, 1) };
        assert_eq!((with(0.0).tries(), with(0.5).tries(), with(1.0).tries()), (1.0, 2.0, 5.0));
        assert_eq!(with(0.5).step_takes(), 0.2);
    }

    #[test]
    fn times_are_told_shortly() {
        for (seconds, says) in [(0.0123, "12 ms"), (0.3, "300 ms"), (1.0, "1 s"), (2.149, "2.1 s"), (61.3, "61 s")] {
            assert_eq!(short(seconds), says);
        }
    }
}
