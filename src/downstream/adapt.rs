//! How much of its rate a dependency takes. A pure state machine: it is told the time.
//!
//! What is configured may be more than an API grants at this hour, or than it grants us beside others. A 429 or 503 takes
//! a share off the rate, and good answers bring it back ("additive increase, multiplicative decrease": Chiu and Jain,
//! 1989), never above what is configured.
//!
//! - **Down.** Each refusal closes the gate, so finding the rate step by step would take minutes of pauses. What came
//!   through since the refusal before, pauses and all, is granted for sure, and the rate goes there at once where pauses were
//!   most of that time. Otherwise it was nearly right, and a little is taken off. All that a pause finds under way are one
//!   refusal.
//! - **Up.** Quickly as far as just below the rate that was refused last, slowly past it, and quickly again from there on, as
//!   in CUBIC (RFC 9438): near the edge refusals have to be rare, because each one costs a pause; well beyond it there is no
//!   edge any more.
//!
//! - **Noise.** Some refusals have nothing to do with the rate, and no lower one keeps them away. They are told apart (`noise`)
//!   by trying: else an API that refuses one call in thirty at random would be called ever more slowly.
//!
//! It never changes what the limiter promises: the rate that it gives goes into a line that is only ever slower.

mod noise;

use noise::{Noise, Said};

/// What a refusal leaves of a rate that was nearly right.
const DECREASE: f64 = 0.85;
/// What it leaves at least, whatever came through: a single odd refusal must not stop an API.
const MOST_DECREASE: f64 = 1.0 / 8.0;
/// While it is tried out whether a lower rate helps, a refusal leaves this: several in a row must not lead to a standstill.
const TRIED_DECREASE: f64 = 0.7;
/// Refusals that come after so many seconds of good answers cost too little to try out what they come from, ...
const SELDOM: f64 = 15.0;
/// ... but where fewer calls than this went well in them the rate may be so low because of such refusals.
const FEW: u32 = 60;
/// Refusals that lie further apart than this have nothing to do with each other: what came through between them says how
/// much there was to do.
const ONE_STORY: i64 = 300 * SECOND;
/// Refusals within this are of one and the same crowd of requests: they are one decrease.
const ONE_DECREASE: i64 = SECOND;
/// Never slower than this share of the configured rate, ...
const LEAST_SHARE: f64 = 0.002;
/// ... nor than this many requests a second, where more are configured: it must be noticed that an API is well again, and
/// a closed gate is what protects one that refuses everything.
const LEAST_PER_SECOND: f64 = 0.2;
/// In a second of good answers the rate grows by this share of itself: it doubles in seven, ...
const QUICK: f64 = 0.1;
/// ... or by this one, near the rate that was refused, ...
const SLOW: f64 = 0.001;
/// ... but with each of them by no more than this, ...
const QUICK_ONE: f64 = 1.0 / 45.0;
/// ... or this: a gate that opens wants 31 successes, and its pauses grow where one is refused before.
const SLOW_ONE: f64 = 0.0014;
/// A rate is near the one that was refused ...
/// ... from here on ...
const NEAR: f64 = 0.95;
/// ... up to here.
const BEYOND: f64 = 1.05;
const SECOND: i64 = 1_000_000_000;

/// The part of its rate at which a dependency is called now.
#[derive(Debug)]
pub struct Adapt {
    is_on: bool,
    /// Of the configured rate; 1 where nothing was refused for long.
    share: f64,
    /// The share at which it was refused last.
    refused: Option<f64>,
    /// Steady time of the last refusal that was news.
    refused_at: Option<i64>,
    /// Good answers since then, ...
    good: u32,
    /// ... and the seconds that they would have taken at the rates that they were sent at.
    ran: f64,
    noise: Noise,
}

impl Adapt {
    /// At the full rate. Where it is not on, it stays there.
    pub fn new(is_on: bool) -> Self {
        Self { is_on, share: 1.0, refused: None, refused_at: None, good: 0, ran: 0.0, noise: Noise::default() }
    }

    /// Requests a second at which it is called now: never above `configured`.
    pub fn rate(&self, configured: f64) -> f64 {
        configured * self.share.max(least(configured))
    }

    /// It answered 429, 503, or 403 with `Retry-After`, to a request that left since the gate last closed: what a late one
    /// says was heard before. The gate closes.
    pub fn on_busy(&mut self, configured: f64, now: i64) {
        let since = self.refused_at.map(|at| now.saturating_sub(at));
        // Where nothing has come through since, it is not well yet, whatever the rate.
        let is_news = since.is_none_or(|since| since >= ONE_DECREASE && self.good > 0);
        if !self.is_on || !is_news {
            return;
        }
        let since = since.filter(|since| *since <= ONE_STORY).map(|since| since as f64 / SECOND as f64);
        let story = Story { good: std::mem::take(&mut self.good), ran: std::mem::take(&mut self.ran), since };
        self.refused_at = Some(now);
        if !self.noise.passes_over() {
            self.learn(configured, story);
        }
    }

    /// What a refusal says that was not to be expected.
    fn learn(&mut self, configured: f64, story: Story) {
        let was_trying = self.noise.is_trying();
        let granted = match self.noise.on_refused(story.good) {
            Said::Noise => {
                self.refused = None;
                return;
            }
            Said::Edge => None,
            // Where some refusals are noise, pauses say little of what is granted.
            Said::Nothing if self.noise.is_known() => None,
            Said::Nothing => story.came_through().map(|per_second| per_second / configured),
        };
        let nearly_right = self.share * DECREASE;
        let least_left = self.share * if was_trying { TRIED_DECREASE } else { MOST_DECREASE };
        let lower = granted.map_or(nearly_right, |granted| granted.clamp(least_left, nearly_right));
        self.refused = Some(self.share);
        self.share = lower.max(least(configured));
        let is_granted = granted.is_some_and(|granted| self.share <= granted);
        if was_trying || is_granted && story.is_frequent() {
            self.noise.try_lower(self.rate(configured));
        }
    }

    /// It gave a good answer, to a request that left before the gate last closed.
    pub fn on_late_success(&mut self) {
        self.good = self.good.saturating_add(1);
        self.noise.on_success();
    }

    /// It gave a good answer, to a request that left since then.
    pub fn on_success(&mut self, configured: f64) {
        self.good = self.good.saturating_add(1);
        self.noise.on_success();
        // It speaks for as long as requests lie apart, so that the rate does not grow by time in which it was not used.
        let spoken_for = 1.0 / self.rate(configured);
        self.ran += spoken_for;
        if !self.noise.is_trying() {
            self.grow(spoken_for);
        }
    }

    fn grow(&mut self, spoken_for: f64) {
        let is_near = |refused: f64| (refused * NEAR..refused * BEYOND).contains(&self.share);
        let (growth, most) = if self.refused.is_some_and(is_near) { (SLOW, SLOW_ONE) } else { (QUICK, QUICK_ONE) };
        // Where pauses come again and again for no reason there are few seconds of good answers to grow in.
        let growth = if self.noise.is_known() { most } else { most.min(growth * spoken_for) };
        self.share = (self.share * (1.0 + growth)).min(1.0);
    }
}

/// From one refusal to the next.
struct Story {
    /// Calls that went well, ...
    good: u32,
    /// ... and the seconds that they took at the rates that they left at.
    ran: f64,
    /// Seconds in all; `None` where they have nothing to do with each other.
    since: Option<f64>,
}

impl Story {
    /// Calls a second: what is granted at least.
    fn came_through(&self) -> Option<f64> {
        self.since.map(|since| f64::from(self.good) / since)
    }

    fn is_frequent(&self) -> bool {
        self.ran < SELDOM || self.good < FEW
    }
}

/// The least share of a configured rate.
fn least(configured: f64) -> f64 {
    LEAST_SHARE.max(LEAST_PER_SECOND / configured).min(1.0)
}

#[cfg(test)]
mod tests;
