//! How many requests left lately: a ring of one counter a second, and one of one a minute.

/// Counters of a ring: so many seconds are a minute, and so many minutes an hour.
const PLACES: usize = 60;
const SECOND_NS: i64 = 1_000_000_000;
const MINUTE_NS: i64 = 60 * SECOND_NS;

/// Counts of the last minute by second, and of the last hour by minute, of steady time.
#[derive(Debug)]
pub struct Calls {
    seconds: Ring,
    minutes: Ring,
}

/// Counters of the last pieces of time, each as long as the others.
#[derive(Debug)]
struct Ring {
    piece_ns: i64,
    counts: [u32; PLACES],
    /// The piece that the newest counter stands for.
    newest: i64,
}

impl Calls {
    /// Nothing has left yet.
    pub fn new() -> Self {
        Self { seconds: Ring::of(SECOND_NS), minutes: Ring::of(MINUTE_NS) }
    }

    /// One request leaves, at this steady time.
    pub fn add(&mut self, now: i64) {
        self.seconds.add(now);
        self.minutes.add(now);
    }

    /// How many left in the last minute.
    pub fn last_minute(&mut self, now: i64) -> u32 {
        self.seconds.turn_to(now);
        self.seconds.counts.iter().sum()
    }

    /// How many left in this second and the one before: of at least the last one.
    pub fn last_second(&mut self, now: i64) -> u32 {
        let newest = self.seconds.turn_to(now);
        self.seconds.counts[newest] + self.seconds.counts[(newest + PLACES - 1) % PLACES]
    }

    /// How many left in each of the last sixty minutes, oldest first; the last one is not over yet.
    pub fn by_minute(&mut self, now: i64) -> Vec<u32> {
        let newest = self.minutes.turn_to(now);
        (1..=PLACES).map(|behind| self.minutes.counts[(newest + behind) % PLACES]).collect()
    }
}

impl Ring {
    fn of(piece_ns: i64) -> Self {
        Self { piece_ns, counts: [0; PLACES], newest: 0 }
    }

    fn add(&mut self, now: i64) {
        let newest = self.turn_to(now);
        self.counts[newest] = self.counts[newest].saturating_add(1);
    }

    /// Clears the counters of the pieces that passed, and gives the place of the newest.
    fn turn_to(&mut self, now: i64) -> usize {
        let piece = (now / self.piece_ns).max(self.newest);
        let passed = (piece - self.newest).min(PLACES as i64);
        for ago in 0..passed {
            self.counts[Self::place(piece - ago)] = 0;
        }
        self.newest = piece;
        Self::place(piece)
    }

    fn place(piece: i64) -> usize {
        piece.rem_euclid(PLACES as i64) as usize
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

    #[test]
    fn tells_the_last_hour_by_minute_and_forgets_the_rest() {
        let mut calls = Calls::new();
        let at = |minute: i64| minute * MINUTE_NS + 7;
        for minute in [100, 159, 159, 160] {
            calls.add(at(minute));
        }
        let minutes = calls.by_minute(at(160));
        assert_eq!(minutes.len(), PLACES);
        assert_eq!((minutes[0], minutes[58], minutes[59]), (0, 2, 1), "100 is an hour ago");
        assert_eq!(calls.by_minute(at(161))[57..], [2, 1, 0]);
        assert_eq!(calls.by_minute(at(9_999)), vec![0; PLACES]);
    }
}
