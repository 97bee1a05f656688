//! How many requests to a dependency may be under way at once. A pure state machine: it is told the time.
//!
//! A rate is used up by as many requests under way as leave while one is answered: rate x latency (Little's law,
//! "A Proof for the Queuing Formula L = λW", 1961). That is what is allowed, from an estimate of the latency that
//! rather says too much, with head room.
//!
//! That alone would run away: an API that can do no more answers later the more it is asked, and would be asked more
//! for it. So what is allowed is also capped. The cap starts small and doubles with each of the first answers, as far as
//! their latency asks for: hardly anything was under way then, so that latency is the API's own. From there on it is moved
//! only by trials: it is raised where it is what holds requests up, and stays raised where more then come through. Where
//! they do not, the latency is our own load, and it is lowered for as long as nothing is lost by it.
//!
//! ```text
//!   start: double with each answer, up to rate x latency
//!     v
//!   full ---> up: double ---- more come through ----> kept; full again? up
//!    ^                   \--- no more: back to where it was
//!    |                         down: a fifth less -- as many come through --> kept; down again
//!    +-- rest, ever longer <-- back to the last one that was enough --- fewer
//!
//!   most requests fail: half as many, until they do not
//! ```

use crate::model::Concurrency as Setting;

/// Before anything is known: what one rarely regrets, and enough to find out.
const COLD: f64 = 16.0;
/// Never fewer, where `max_concurrency` allows it: a few late answers must not hold up all the rest.
const FLOOR: f64 = 4.0;
/// Above rate x latency, so that answers that take a little longer now and then hold nothing up.
const HEAD_ROOM: f64 = 1.25;
/// On top: at low rates a share of a little is nothing.
const SPARE: f64 = 4.0;
/// How much of a longer latency is learned from one answer, and ...
const LEARN_UP: f64 = 1.0 / 8.0;
/// ... of a shorter one: the estimate of the latency lies above the mean, because too many places cost nothing where the
/// rate is what bounds, and too few hold requests up.
const LEARN_DOWN: f64 = 1.0 / 64.0;
/// How much of the typical latency is learned from one answer.
const LEARN_MEAN: f64 = 1.0 / 32.0;

/// A trial is judged over at least so long, and over one latency, ...
const WINDOW: i64 = SECOND;
/// ... and over so many answers, because fewer come evenly enough to compare, ...
const ENOUGH_ANSWERS: u32 = 50;
/// ... but over no longer than so many of those windows.
const LONGEST_WINDOWS: i64 = 10;
/// The cap is what holds requests up where this share of the answers found all places taken.
const FULL_SHARE: f64 = 0.8;
/// All places are taken also where this share of them is: whoever takes the next one is on the way.
const NEARLY_ALL: f64 = 0.97;
/// How the cap is raised while that helps ...
const FAST: f64 = 2.0;
/// ... and after it did not.
const SLOW: f64 = 1.25;
/// Raised by so much, it must bring this share of it: with a quarter more, five in a hundred.
const WORTH: f64 = 0.2;
/// How it is lowered where more brought nothing, ...
const LOWER: f64 = 0.8;
/// ... for as long as this share of what came through still does.
const STILL: f64 = 0.95;
/// How much of the share of failures is learned from each end of a request.
const LEARN_FAILURES: f64 = 1.0 / 16.0;
/// Where more than this share of them fails, too many may be under way: an API that has more to do than it can do in time
/// does everything in vain, and none of its answers would ever tell.
const TOO_MANY_FAILURES: f64 = 0.5;
/// What that leaves of the places.
const BACK_OFF: f64 = 0.5;
/// After a trial that failed the cap is left alone for so long, and twice as long after each further one, ...
const FIRST_REST: i64 = 10 * SECOND;
/// ... up to this: an API that has got better is noticed within it.
const LONGEST_REST: i64 = 160 * SECOND;
const SECOND: i64 = 1_000_000_000;

/// How many requests may be under way, and how fast they are answered.
#[derive(Debug)]
pub struct Concurrency {
    setting: Setting,
    max: f64,
    /// Requests a second that may leave.
    rate: f64,
    latency: Option<Latency>,
    /// What trials allow.
    cap: f64,
    /// Whether the first answers still raise the cap.
    is_starting: bool,
    window: Window,
    trial: Option<Trial>,
    /// How the next trial raises the cap.
    step: f64,
    /// The last failed trial's rest, and until when it lasts.
    rest: i64,
    rests_until: i64,
    /// The share of requests that fail, of those that left after the last time that it was too much.
    failures: f64,
    backed_off_at: i64,
    /// Whether that was the last that was learned of the cap: it is tried downwards first.
    has_backed_off: bool,
    /// Steady time of the last request or answer.
    moved_at: i64,
}

/// Nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Latency {
    mean: f64,
    upper: f64,
}

impl Latency {
    fn learn(&mut self, latest: f64) {
        self.mean += (latest - self.mean) * LEARN_MEAN;
        self.upper += (latest - self.upper) * if latest > self.upper { LEARN_UP } else { LEARN_DOWN };
    }
}

/// What is counted to judge a trial by.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    /// Answers before this steady time are to requests that left under another cap.
    from: i64,
    answers: u32,
    /// So many of them found all places taken.
    full: u32,
}

/// A cap that is tried, beside one that is known.
#[derive(Debug, Clone, Copy)]
enum Trial {
    Up { from: f64, throughput: f64 },
    Down { from: f64, throughput: f64 },
}

impl Concurrency {
    /// With nothing measured; of [`Setting::Auto`] never more than `max`. `rate` is how many requests a second may leave.
    pub fn new(setting: Setting, max: u32, rate: f64) -> Self {
        Self {
            setting,
            max: f64::from(max.max(1)),
            rate,
            latency: None,
            cap: COLD,
            is_starting: true,
            window: Window::default(),
            trial: None,
            step: FAST,
            rest: FIRST_REST,
            rests_until: i64::MIN,
            failures: 0.0,
            backed_off_at: i64::MIN,
            has_backed_off: false,
            moved_at: i64::MIN,
        }
    }

    /// How many requests may be under way now. At least 1.
    pub fn limit(&self) -> u32 {
        match self.setting {
            Setting::Fixed(limit) => limit.max(1),
            Setting::Auto => self.auto() as u32,
        }
    }

    /// How many requests could be under way before long, where there is enough to do: what holds them up is the rate, or
    /// this. At least 1.
    pub fn reach(&self) -> u32 {
        match self.setting {
            Setting::Auto if !self.is_starting && self.cap < self.wanted() => self.auto() as u32,
            Setting::Auto => self.max as u32,
            Setting::Fixed(_) => self.limit(),
        }
    }

    /// So many requests a second may leave from now on.
    pub fn set_rate(&mut self, per_second: f64) {
        self.rate = per_second;
    }

    /// A request leaves, at this steady time.
    pub fn on_sent(&mut self, now: i64) {
        // Nothing was to be done for a while: what was counted before is not the throughput of a full lane.
        if now.saturating_sub(self.moved_at) > 2 * self.window_ns() {
            self.begin_window(now);
        }
        self.moved_at = now;
    }

    /// A good answer came, at this steady time and so many nanoseconds after its request left; `in_flight` were under way
    /// until then, itself among them. Not for requests that got none, or were turned away: how long silence was waited for
    /// says nothing of how fast answers are, nor does an error that costs its server nothing.
    pub fn on_answer(&mut self, latency_ns: i64, now: i64, in_flight: u32) {
        let latest = latency_ns.max(0) as f64;
        self.failures -= self.failures * LEARN_FAILURES;
        self.latency.get_or_insert(Latency { mean: latest, upper: latest }).learn(latest);
        self.moved_at = now;
        if self.setting != Setting::Auto {
            return;
        }
        if self.is_starting {
            self.start(now);
        }
        self.count(now, in_flight);
        if let Some(throughput) = self.judged(now) {
            let is_full = f64::from(self.window.full) >= FULL_SHARE * f64::from(self.window.answers);
            self.window = Window { from: now, ..Window::default() };
            self.decide(throughput, is_full, now);
        }
    }

    /// A request that left at `left_at` was not answered, or by an error of its server.
    pub fn on_failure(&mut self, left_at: i64, now: i64) {
        if left_at < self.backed_off_at {
            return;
        }
        self.failures += (1.0 - self.failures) * LEARN_FAILURES;
        if self.failures > TOO_MANY_FAILURES {
            (self.failures, self.backed_off_at, self.trial) = (0.0, now, None);
            self.is_starting &= self.latency.is_none();
            (self.has_backed_off, self.step) = (true, SLOW);
            self.move_cap(self.auto() * BACK_OFF, now);
        }
    }

    fn auto(&self) -> f64 {
        self.wanted().min(self.cap).clamp(FLOOR.min(self.max), self.max)
    }

    fn wanted(&self) -> f64 {
        self.latency.map_or(COLD, |latency| self.rate * latency.upper / SECOND as f64 * HEAD_ROOM + SPARE)
    }

    /// Doubles the cap while the latency asks for more; it jumps by no single answer, which may have been an odd one.
    fn start(&mut self, now: i64) {
        let wanted = self.wanted();
        self.is_starting = self.cap * FAST < wanted.min(self.max);
        self.move_cap(wanted.min(self.cap * FAST), now);
    }

    fn mean_ns(&self) -> i64 {
        self.latency.map_or(0, |latency| latency.mean as i64)
    }

    fn window_ns(&self) -> i64 {
        self.mean_ns().max(WINDOW)
    }

    fn begin_window(&mut self, now: i64) {
        self.window = Window { from: now.saturating_add(self.mean_ns()), ..Window::default() };
    }

    fn move_cap(&mut self, cap: f64, now: i64) {
        self.cap = cap.clamp(FLOOR.min(self.max), self.max);
        self.begin_window(now);
    }

    fn count(&mut self, now: i64, in_flight: u32) {
        if now >= self.window.from {
            self.window.answers += 1;
            self.window.full += u32::from(f64::from(in_flight) >= (self.auto() * NEARLY_ALL).floor());
        }
    }

    /// Answers a second of a window that is over.
    fn judged(&self, now: i64) -> Option<f64> {
        let (took, least) = (now.saturating_sub(self.window.from), self.window_ns());
        let enough = self.window.answers >= ENOUGH_ANSWERS || took >= least.saturating_mul(LONGEST_WINDOWS);
        (took >= least && enough).then(|| f64::from(self.window.answers) * SECOND as f64 / took as f64)
    }

    fn decide(&mut self, throughput: f64, is_full: bool, now: i64) {
        let cap = self.cap;
        match self.trial.take() {
            Some(Trial::Up { from, throughput: before }) => {
                if throughput >= before * (1.0 + WORTH * (cap / from - 1.0)) {
                    (self.step, self.rest) = (FAST, FIRST_REST);
                    self.raise_if(is_full, cap, throughput, now);
                } else {
                    self.step = SLOW;
                    self.back(is_full, from, before, now);
                }
            }
            Some(Trial::Down { throughput: before, .. }) if throughput >= before * STILL => {
                self.lower(cap, before.max(throughput), now);
            }
            Some(Trial::Down { from, .. }) => self.settle(from, now),
            None if is_full && std::mem::take(&mut self.has_backed_off) => self.lower(cap, throughput, now),
            None => self.raise_if(is_full && now >= self.rests_until, cap, throughput, now),
        }
    }

    /// Tries more, where more is asked for and allowed.
    fn raise_if(&mut self, is_wanted: bool, from: f64, throughput: f64, now: i64) {
        let to = (from * self.step).min(self.wanted()).min(self.max);
        if is_wanted && to >= from + 1.0 {
            self.trial = Some(Trial::Up { from, throughput });
            self.move_cap(to, now);
        }
    }

    /// More brought no more: as before, or with less. Where not all places were taken the rate is what bounds, or what
    /// there is to do, and nothing is learned of less.
    fn back(&mut self, is_full: bool, from: f64, throughput: f64, now: i64) {
        if is_full { self.lower(from, throughput, now) } else { self.move_cap(from, now) }
    }

    /// Tries less. What has to come through is the most that came through on the way down, however many steps it has.
    fn lower(&mut self, from: f64, throughput: f64, now: i64) {
        let to = (from * LOWER).max(FLOOR.min(self.max));
        if to <= from - 1.0 {
            self.trial = Some(Trial::Down { from, throughput });
            self.move_cap(to, now);
        } else {
            self.settle(from, now);
        }
    }

    fn settle(&mut self, cap: f64, now: i64) {
        self.move_cap(cap, now);
        self.rests_until = now.saturating_add(self.rest);
        self.rest = (self.rest * 2).min(LONGEST_REST);
    }
}

#[cfg(test)]
mod tests;
