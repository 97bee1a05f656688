//! How much of its rate a dependency takes. A pure state machine: it is told the time.
//!
//! What is configured may be more than an API grants at this hour, or than it grants us beside others. A 429 or 503 takes
//! a share off the rate, and good answers bring it back ("additive increase, multiplicative decrease": Chiu and Jain,
//! 1989), never above what is configured.
//!
//! - **Down.** Each refusal closes the gate, so finding the rate step by step would take minutes of pauses. Where pauses
//!   were most of the time since the refusal before, what came through meanwhile is about what is granted, and the rate
//!   goes there at once. Otherwise the rate was nearly right, and a little is taken off.
//! - **Up.** Quickly as far as just below the rate that was refused last, slowly past it, and quickly again from there on, as
//!   in CUBIC (RFC 9438): near the edge refusals have to be rare, because each one costs a pause; well beyond it there is no
//!   edge any more.
//!
//! It never changes what the limiter promises: the rate that it gives goes into a line that is only ever slower.

/// What a refusal leaves of a rate that was nearly right.
const DECREASE: f64 = 0.85;
/// What it leaves at least, whatever came through: a single odd refusal must not stop an API.
const MOST_DECREASE: f64 = 1.0 / 8.0;
/// A rate was nearly right where this share of it came through since the refusal before.
const RAN_WELL: f64 = 0.5;
/// Refusals that lie further apart than this have nothing to do with each other: what came through between them says how
/// much there was to do.
const ONE_STORY: i64 = 300 * SECOND;
/// Refusals within this are of one and the same crowd of requests: they are one decrease.
const ONE_DECREASE: i64 = SECOND;
/// Never slower than this share of the configured rate, ...
const LEAST_SHARE: f64 = 0.01;
/// ... nor than this many requests a second, where more are configured: it must be noticed that an API is well again, and
/// a closed gate is what protects one that refuses everything.
const LEAST_PER_SECOND: f64 = 0.2;
/// In a second of good answers the rate grows by this share of itself: it doubles in ten, ...
const QUICK: f64 = 0.07;
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
    /// Steady time of the last decrease.
    decreased_at: Option<i64>,
    /// Good answers since then, ...
    good: u32,
    /// ... and the seconds that they would have taken at the rates that they were sent at.
    ran: f64,
}

impl Adapt {
    /// At the full rate. Where it is not on, it stays there.
    pub fn new(is_on: bool) -> Self {
        Self { is_on, share: 1.0, refused: None, decreased_at: None, good: 0, ran: 0.0 }
    }

    /// Requests a second at which it is called now: never above `configured`.
    pub fn rate(&self, configured: f64) -> f64 {
        configured * self.share.max(least(configured))
    }

    /// It answered 429, 503, or 403 with `Retry-After`, to a request that left since the gate last closed: what a late one
    /// says was heard before. The gate closes.
    pub fn on_busy(&mut self, configured: f64, now: i64) {
        let since = self.decreased_at.map(|at| now.saturating_sub(at));
        // Where nothing has come through since, it is not well yet, whatever the rate.
        let is_news = since.is_none_or(|since| since >= ONE_DECREASE && self.good > 0);
        if !self.is_on || !is_news {
            return;
        }
        let nearly_right = self.share * DECREASE;
        let seconds = since.filter(|since| *since <= ONE_STORY).map(|since| since as f64 / SECOND as f64);
        let share = match seconds {
            Some(seconds) if self.ran < seconds * RAN_WELL => {
                let came_through = f64::from(self.good) / seconds;
                (came_through / configured).clamp(self.share * MOST_DECREASE, nearly_right)
            }
            _ => nearly_right,
        };
        self.refused = Some(self.share);
        self.share = share.max(least(configured));
        (self.decreased_at, self.good, self.ran) = (Some(now), 0, 0.0);
    }

    /// It gave a good answer, to a request that left before the gate last closed.
    pub fn on_late_success(&mut self) {
        self.good = self.good.saturating_add(1);
    }

    /// It gave a good answer, to a request that left since then.
    pub fn on_success(&mut self, configured: f64) {
        self.good = self.good.saturating_add(1);
        // It speaks for as long as requests lie apart, so that the rate does not grow by time in which it was not used.
        let spoken_for = 1.0 / self.rate(configured);
        self.ran += spoken_for;
        if self.share < 1.0 {
            let is_near = |refused: f64| (refused * NEAR..refused * BEYOND).contains(&self.share);
            let (growth, most) = if self.refused.is_some_and(is_near) { (SLOW, SLOW_ONE) } else { (QUICK, QUICK_ONE) };
            self.share = (self.share * (1.0 + (growth * spoken_for).min(most))).min(1.0);
        }
    }
}

/// The least share of a configured rate.
fn least(configured: f64) -> f64 {
    LEAST_SHARE.max(LEAST_PER_SECOND / configured).min(1.0)
}

#[cfg(test)]
mod tests;
