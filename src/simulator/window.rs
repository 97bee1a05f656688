//! Sliding windows of one second.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

const SECOND: Duration = Duration::from_secs(1);

/// The instants of the last second.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<Instant>);

impl Window {
    /// How many there are in the second that ends now, after `now` itself is counted in.
    pub(super) fn count_in(&mut self, now: Instant) -> u64 {
        self.forget_before(now);
        self.0.push_back(now);
        self.0.len() as u64
    }

    /// How long until there are fewer than `limit`; `None` when there are.
    pub(super) fn full_for(&mut self, now: Instant, limit: u32) -> Option<Duration> {
        self.forget_before(now);
        let over = self.0.len().checked_sub(limit as usize)?;
        self.0.get(over).map(|oldest| SECOND.saturating_sub(now.duration_since(*oldest)))
    }

    fn forget_before(&mut self, now: Instant) {
        while self.0.front().is_some_and(|oldest| now.duration_since(*oldest) >= SECOND) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_lies_within_one_second() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut window = Window::default();
        assert_eq!([0, 400, 900].map(|ms| window.count_in(at(ms))), [1, 2, 3]);
        assert_eq!(window.full_for(at(950), 3), Some(Duration::from_millis(50)));
        assert_eq!(window.full_for(at(950), 4), None);
        assert_eq!(window.count_in(at(1_000)), 3, "the first one has left");
    }
}
