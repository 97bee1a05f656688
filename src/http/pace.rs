//! How fast the other end is: bytes, over the time that we waited for it. Our own slowness counts for nobody.
//!
//! A pause alone has no limit that helps: a byte just before its end begins it anew, for ever. So what comes within a
//! window of waiting is counted, and less than a least rate is the end of it.

use std::time::Duration;

/// The least bytes a second that the other end sends of an upload, or takes of an answer, while we wait for it. A modem
/// of the last century does.
pub const LEAST_RATE: u64 = 4 * 1024;

/// It was slower than the least rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("slower than {LEAST_RATE} bytes a second")]
pub struct TooSlow;

/// What came, or went, in the window that is open.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    window: Duration,
    least: u64,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Judges each `window` of waiting.
    pub fn new(window: Duration) -> Self {
        let least = LEAST_RATE.saturating_mul(window.as_millis() as u64) / 1_000;
        Self { window, least, waited: Duration::ZERO, bytes: 0 }
    }

    /// How long may still be waited until the window is judged.
    pub fn left(&self) -> Duration {
        self.window.saturating_sub(self.waited)
    }

    /// So many bytes came after so long a wait.
    pub fn came(&mut self, waited: Duration, bytes: usize) -> Result<(), TooSlow> {
        self.waited += waited;
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.waited < self.window {
            return Ok(());
        }
        let enough = self.bytes >= self.least;
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        if enough { Ok(()) } else { Err(TooSlow) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    #[test]
    fn a_trickle_is_too_slow_however_regularly_it_comes() {
        let mut pace = Pace::new(WINDOW);
        let mut waited = Duration::ZERO;
        while pace.came(Duration::from_secs(1), 100).is_ok() {
            waited += Duration::from_secs(1);
            assert!(waited < 2 * WINDOW, "100 bytes a second go on for ever");
        }
        assert_eq!(waited, Duration::from_secs(9));
    }

    #[test]
    fn what_comes_at_the_least_rate_goes_on_and_a_burst_buys_one_window() {
        let mut pace = Pace::new(WINDOW);
        for _ in 0..1_000 {
            assert_eq!(pace.came(Duration::from_secs(1), LEAST_RATE as usize), Ok(()));
        }
        assert_eq!(pace.came(WINDOW, 1 << 30), Ok(()), "much at once");
        assert_eq!(pace.came(WINDOW, 1), Err(TooSlow), "does not last for ever");
        assert_eq!(pace.came(Duration::ZERO, 0), Ok(()));
        assert_eq!(pace.left(), WINDOW);
    }
}
