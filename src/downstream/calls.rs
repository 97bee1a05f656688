//! How many requests left lately: a ring of one counter a second.

const SECONDS: usize = 60;
const SECOND_NS: i64 = 1_000_000_000;

/// Counts of the last minute, by second of steady time.
#[derive(Debug)]
pub struct Calls {
    counts: [u32; SECONDS],
    /// The second that the newest counter stands for.
    second: i64,
}

impl Calls {
    /// Nothing has left yet.
    pub fn new() -> Self {
        Self { counts: [0; SECONDS], second: 0 }
    }

    /// One request leaves, at this steady time.
    pub fn add(&mut self, now: i64) {
        let newest = self.turn_to(now);
        self.counts[newest] = self.counts[newest].saturating_add(1);
    }

    /// How many left in the last minute.
    pub fn last_minute(&mut self, now: i64) -> u32 {
        self.turn_to(now);
        self.counts.iter().sum()
    }

    /// How many left in this second and the one before: of at least the last one.
    pub fn last_second(&mut self, now: i64) -> u32 {
        let newest = self.turn_to(now);
        self.counts[newest] + self.counts[(newest + SECONDS - 1) % SECONDS]
    }

    /// Clears the counters of the seconds that passed, and gives the place of the newest.
    fn turn_to(&mut self, now: i64) -> usize {
        let second = (now / SECOND_NS).max(self.second);
        let passed = (second - self.second).min(SECONDS as i64);
        for ago in 0..passed {
            self.counts[Self::place(second - ago)] = 0;
        }
        self.second = second;
        Self::place(second)
    }

    fn place(second: i64) -> usize {
        second.rem_euclid(SECONDS as i64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_last_minute_and_forgets_the_rest() {
        let mut calls = Calls::new();
        let at = |second: i64| second * SECOND_NS + 7;
        for second in [100, 100, 101, 130] {
            calls.add(at(second));
        }
        assert_eq!((calls.last_minute(at(130)), calls.last_second(at(130)), calls.last_second(at(131))), (4, 1, 1));
        assert_eq!(calls.last_minute(at(160)), 2, "100 is a minute ago");
        assert_eq!((calls.last_minute(at(189)), calls.last_minute(at(190)), calls.last_minute(at(9_999))), (1, 0, 0));
    }
}
