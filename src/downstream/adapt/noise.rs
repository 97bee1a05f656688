//! Refusals that have nothing to do with the rate: some APIs turn a few calls in a hundred away at random.
//!
//! A limit is told from them by what a lower rate does, because below a limit nothing is refused. So after a refusal the rate
//! stays for a while at what is granted for sure: a trial, which lasts for several times as many calls as went well before.
//! Where one of those is refused, the lower rate was in vain. After [`ENOUGH`] such trials refusals are taken to come at any
//! rate, as often as they did then, and so many are passed over from there on. Where more come, the rate has its part in it,
//! and is lowered.

/// So many trials that were in vain are no coincidence.
const ENOUGH: u32 = 3;
/// A lower rate has helped where so many times as many calls went well as before: by chance that is one case in twenty.
const MANY_MORE: f64 = 3.0;
/// A trial lasts for no more calls than leave in so many seconds, ...
const LONGEST_TRIAL: f64 = 30.0;
/// ... or than this, where that is more: of three refused in a hundred one is among them.
const SHORTEST_TRIAL: f64 = 60.0;
/// An API that refuses more of its calls than this is not well, whatever the reason, and a lower rate is right for it.
const MOST_NOISE: f64 = 0.2;
/// Passed over are so many times as many refusals as are to be expected, because chance is uneven, ...
const LENIENCY: f64 = 2.0;
/// ... and at once at most so many.
const MOST_AT_ONCE: f64 = 4.0;
/// How much is learned of their share from each: it is that of about the last eight.
const LEARN: f64 = 1.0 / 8.0;
/// What was found of few refusals may be too little by so much; what comes beyond is taken for a limit.
const UNSURE: f64 = 1.5;
/// Fewer than this are not worth the distinction.
const LEAST_NOISE: f64 = 0.000_5;

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Noise {
    /// Refusals that may be noise, and the calls that went well between them.
    refusals: u32,
    calls: f64,
    /// So many calls of a trial are left.
    left: f64,
    /// So many more trials were in vain than not.
    in_vain: u32,
    /// Which share of calls is refused at any rate; 0 where none is.
    share: f64,
    /// It is never taken to be more than this.
    most: f64,
    /// So many refusals are passed over.
    credit: f64,
}

/// What a refusal says.
pub(super) enum Said {
    /// A lower rate has kept refusals away, and this is where they begin.
    Edge,
    /// They have nothing to do with the rate.
    Noise,
    /// Nothing yet.
    Nothing,
}

impl Noise {
    /// Whether the rate has to stay as it is, for a trial.
    pub(super) fn is_trying(&self) -> bool {
        self.left > 0.0
    }

    /// Whether some refusals are known to come at any rate.
    pub(super) fn is_known(&self) -> bool {
        self.share > 0.0
    }

    /// A call went well.
    pub(super) fn on_success(&mut self) {
        if self.is_trying() {
            self.left = (self.left - 1.0).max(0.0);
            self.in_vain = self.in_vain.saturating_sub(u32::from(!self.is_trying()));
        }
        self.credit = (self.credit + LENIENCY * self.share).min(MOST_AT_ONCE);
        self.share *= 1.0 - self.share * LEARN;
        if self.share < LEAST_NOISE {
            (self.share, self.credit) = (0.0, 0.0);
        }
    }

    /// A call was refused. Whether that was to be expected, so that it says nothing of the rate.
    pub(super) fn passes_over(&mut self) -> bool {
        let is_expected = self.credit >= 1.0;
        if is_expected {
            self.credit -= 1.0;
            self.share = (self.share * (1.0 + LEARN)).min(self.most);
        }
        is_expected
    }

    /// A call was refused behind so many good ones, and that was not to be expected. What it says.
    pub(super) fn on_refused(&mut self, good: u32) -> Said {
        let good = f64::from(good);
        let has_helped = !self.is_trying() && self.refusals > 0 && good > MANY_MORE * self.usual();
        if self.is_trying() {
            self.in_vain += 1;
        } else if self.in_vain == 0 {
            (self.refusals, self.calls) = (0, 0.0);
        }
        (self.refusals, self.calls, self.left) = (self.refusals + 1, self.calls + good, 0.0);
        match (self.in_vain >= ENOUGH && self.find(), has_helped) {
            (true, _) => Said::Noise,
            (false, true) => Said::Edge,
            (false, false) => Said::Nothing,
        }
    }

    /// The rate was lowered to what is granted for sure, so many calls a second: a trial begins.
    pub(super) fn try_lower(&mut self, per_second: f64) {
        self.left = (MANY_MORE * self.usual()).min((per_second * LONGEST_TRIAL).max(SHORTEST_TRIAL));
    }

    /// Calls that go well before one is refused.
    fn usual(&self) -> f64 {
        self.calls / f64::from(self.refusals.max(1))
    }

    /// Whether what was refused lately is noise.
    fn find(&mut self) -> bool {
        let refusals = f64::from(self.refusals);
        let share = refusals / (refusals + self.calls);
        self.in_vain = 0;
        if share > MOST_NOISE {
            return false;
        }
        (self.share, self.most, self.credit) = (share, share * UNSURE, MOST_AT_ONCE);
        true
    }
}
