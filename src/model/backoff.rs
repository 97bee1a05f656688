//! How long a row waits for its next try.

use std::time::Duration;

use rand::{Rng, RngExt};

/// The wait after the first counted attempt, before jitter.
pub const FIRST_WAIT: Duration = Duration::from_secs(2);
/// No wait is longer than this, before jitter.
pub const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);

/// How long a row is held back because an answer asks for it, at most.
pub const LONGEST_HELD_BACK: Duration = Duration::from_secs(60 * 60);

/// The wait after `attempts` counted attempts: doubled each time, capped, and spread evenly over its upper half, so
/// that rows which failed together do not come back together ("equal jitter", AWS Architecture Blog, 2015).
pub fn wait(attempts: u32, rng: &mut impl Rng) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let full = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
    full.mul_f64(rng.random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_is_capped_and_is_spread() {
        let mut rng = rand::rng();
        for (attempts, full) in [(1, FIRST_WAIT), (2, FIRST_WAIT * 2), (4, FIRST_WAIT * 8), (99, LONGEST_WAIT)] {
            let waits: Vec<_> = (0..200).map(|_| wait(attempts, &mut rng)).collect();
            assert!(waits.iter().all(|wait| (full / 2..=full).contains(wait)), "after {attempts}");
            let spread = *waits.iter().max().unwrap() - *waits.iter().min().unwrap();
            assert!(spread > full / 4, "after {attempts} all waits lie within {spread:?}");
        }
    }
}
