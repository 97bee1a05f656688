//! How the last rows of each batch ended: what a batch pauses itself by ([`FailureLimit`]).
//!
//! It is kept in memory only. A start forgets it, and the worst that comes of that is as many failed rows again as the
//! limit says: so it is not worth a write for each row that ends. Nothing is counted of a batch that stands still: who
//! lets it go on again has mended the cause, and what was under way when it paused tells of the time before.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::model::workflow::FailureLimit;

/// The most batches that are remembered; the one whose rows ended longest ago goes first. A few hundred bytes each.
const MOST_BATCHES: usize = 16_384;

/// The last endings of every batch.
#[derive(Clone, Default)]
pub struct Recent(Arc<Mutex<Windows>>);

#[derive(Default)]
struct Windows {
    of: BTreeMap<i64, Window>,
    touches: u64,
    /// Rows that have failed, and of which that is not on disk yet.
    coming: HashMap<i64, usize>,
}

/// One batch. Only failures take room, and never more than the limit asks for.
#[derive(Default)]
struct Window {
    /// How many rows have ended.
    ended: u64,
    /// Which of them failed, counted from 1: the last ones.
    failed: VecDeque<u64>,
    touched: u64,
}

/// What is too much: so many failed of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany {
    pub failed: u64,
    pub of: u64,
}

/// A failure that is known and not on disk yet. Dropped when it is, or never will be.
pub(super) struct Coming {
    recent: Recent,
    batch: i64,
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut windows = self.recent.lock();
        if let Some(coming) = windows.coming.get_mut(&self.batch) {
            *coming -= 1;
            if *coming == 0 {
                windows.coming.remove(&self.batch);
            }
        }
    }
}

impl Recent {
    /// A row of the batch has failed.
    pub(super) fn coming(&self, batch: i64) -> Coming {
        *self.lock().coming.entry(batch).or_default() += 1;
        Coming { recent: self.clone(), batch }
    }

    /// Whether the batch will pause itself once what is known is on disk. Until then nothing more of it is to be begun: by the
    /// time that a pause is on disk a fast API has turned away many more.
    pub(super) fn is_about_to_pause(&self, batch: i64, limit: FailureLimit) -> bool {
        let windows = self.lock();
        let Some(coming) = windows.coming.get(&batch) else { return false };
        // As many as are enough: where the database refuses for long, thousands wait, and each request asks here.
        let next = vec![true; (*coming).min(limit.failures.max(1) as usize)];
        match windows.of.get(&batch) {
            Some(window) => window.judge(limit, &next).is_some(),
            None => Window::default().judge(limit, &next).is_some(),
        }
    }

    /// Forgets how a batch's rows ended until now.
    pub fn forget(&self, batch: i64) {
        self.lock().of.remove(&batch);
    }

    /// Whether too many rows of a batch have failed, if its next rows end so (`true`: failed). Nothing is kept of it:
    /// the transaction that they end in may yet be undone.
    pub(super) fn judge(&self, batch: i64, limit: FailureLimit, next: &[bool]) -> Option<TooMany> {
        match self.lock().of.get(&batch) {
            Some(window) => window.judge(limit, next),
            None => Window::default().judge(limit, next),
        }
    }

    /// Rows of a batch have ended (`true`: failed).
    pub(super) fn note(&self, batch: i64, limit: FailureLimit, ended: &[bool]) {
        let mut windows = self.lock();
        windows.touches += 1;
        let touched = windows.touches;
        if windows.of.len() >= MOST_BATCHES && !windows.of.contains_key(&batch) {
            let oldest = windows.of.iter().min_by_key(|(_, window)| window.touched).map(|(batch, _)| *batch);
            oldest.map(|oldest| windows.of.remove(&oldest));
        }
        let window = windows.of.entry(batch).or_default();
        window.touched = touched;
        ended.iter().for_each(|failed| window.push(limit, *failed));
    }

    fn lock(&self) -> MutexGuard<'_, Windows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn push(&mut self, limit: FailureLimit, failed: bool) {
        self.ended += 1;
        if failed {
            self.failed.push_back(self.ended);
        }
        let behind = self.ended.saturating_sub(limit.window());
        while self.failed.len() > limit.failures as usize || self.failed.front().is_some_and(|place| *place <= behind) {
            self.failed.pop_front();
        }
    }

    fn judge(&self, limit: FailureLimit, next: &[bool]) -> Option<TooMany> {
        let (window, enough) = (limit.window(), limit.failures.max(1) as usize);
        let new: Vec<u64> =
            (self.ended + 1..).zip(next).filter(|(_, failed)| **failed).map(|(place, _)| place).collect();
        let place = |index: usize| self.failed.get(index).or_else(|| new.get(index - self.failed.len())).copied();
        (0..new.len()).find_map(|index| {
            let (last, so_far) = (new[index], self.failed.len() + index + 1);
            let first = place(so_far.checked_sub(enough)?)?;
            (last - first < window).then_some(TooMany { failed: enough as u64, of: last.min(window) })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_and_not_on_disk_yet_counts_until_it_is() {
        let (recent, limit) = (Recent::default(), FailureLimit::DEFAULT);
        recent.note(1, limit, &[true; 40]);
        let mut coming: Vec<_> = (0..9).map(|_| recent.coming(1)).collect();
        assert!(!recent.is_about_to_pause(1, limit));
        coming.push(recent.coming(1));
        assert!(recent.is_about_to_pause(1, limit) && !recent.is_about_to_pause(2, limit));
        drop(coming);
        assert!(!recent.is_about_to_pause(1, limit) && recent.lock().coming.is_empty());
    }

    const LIMIT: FailureLimit = FailureLimit::DEFAULT;
    const ONE: i64 = 1;
    const OTHER: i64 = 2;

    /// As the settler does it, in groups of so many: after how many endings the batch pauses.
    fn pauses_after(recent: &Recent, batch: i64, ended: &[bool], group: usize) -> Option<(usize, TooMany)> {
        let mut before = 0;
        for group in ended.chunks(group) {
            if let Some(too_many) = recent.judge(batch, LIMIT, group) {
                return Some((before + group.len(), too_many));
            }
            recent.note(batch, LIMIT, group);
            before += group.len();
        }
        None
    }

    #[test]
    fn fifty_failures_pause_it_however_many_rows_were_well_before() {
        for (well, of) in [(0, 50), (10, 60), (500_000, 100)] {
            let ended = [vec![false; well], vec![true; 60]].concat();
            let paused = pauses_after(&Recent::default(), ONE, &ended, 1);
            assert_eq!(paused, Some((well + 50, TooMany { failed: 50, of })), "{well}");
        }
    }

    #[test]
    fn fewer_than_half_of_the_last_hundred_do_not_pause_it_and_half_do() {
        let one_in = |n: usize| (0..100_000).map(|row| row % n == 0).collect::<Vec<_>>();
        for group in [1, 7, 256] {
            assert_eq!(pauses_after(&Recent::default(), ONE, &one_in(3), group), None);
            let (after, too_many) = pauses_after(&Recent::default(), ONE, &one_in(2), group).expect("it pauses");
            assert!((99..99 + group).contains(&after), "{after} in groups of {group}");
            assert_eq!(too_many, TooMany { failed: 50, of: 99 });
        }
    }

    #[test]
    fn batches_are_judged_apart_and_one_that_is_forgotten_begins_anew() {
        let recent = Recent::default();
        assert_eq!(pauses_after(&recent, ONE, &[true; 49], 1), None);
        assert_eq!(pauses_after(&recent, OTHER, &[true; 49], 1), None);
        recent.forget(ONE);
        assert_eq!(pauses_after(&recent, ONE, &[true; 49], 1), None);
        assert!(recent.judge(OTHER, LIMIT, &[true]).is_some());
    }

    #[test]
    fn a_share_above_one_never_pauses_it() {
        let never = FailureLimit { failures: 3, share: 1.1 };
        assert_eq!(Recent::default().judge(ONE, never, &[true; 1_000]), None);
        assert!(Recent::default().judge(ONE, FailureLimit { share: 1.0, ..never }, &[true; 3]).is_some());
    }

    #[test]
    fn neither_one_batch_nor_many_take_room_without_end() {
        let recent = Recent::default();
        (0..MOST_BATCHES as i64 + 50).for_each(|batch| recent.note(batch, LIMIT, &[true]));
        recent.note(7, LIMIT, &[true, false].repeat(10_000));
        let windows = recent.lock();
        assert!(windows.of.len() <= MOST_BATCHES && windows.of[&7].failed.len() <= 50);
    }
}
