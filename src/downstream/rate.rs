//! How fast a dependency may be called: slots on a line of steady nanoseconds. Pure arithmetic: no clock, no lock, no
//! store.
//!
//! One request may leave for each slot, at the slot's time or a little later. Slots lie one spacing `T = 1 / rate`
//! apart. A slot that nobody used in time is worth less and less: it may be used up to `(burst - 1) * T + slack` after
//! its time, which is what lets a quiet dependency be called `burst` times at once, and a thread wake up late without
//! losing its slot. What is older is moved up to the earliest slot that still counts.
//!
//! **Why no second holds more than `rate + burst` releases.** A release at time `t` uses a slot in
//! `[t - (burst - 1) * T - slack, t]`. All releases of a half-open second therefore use slots within a half-open
//! stretch of length `1 s + (burst - 1) * T + slack`, which holds at most `ceil(length / T)` slots that lie `T` apart.
//! With `n = floor(rate)`, that is at most `n + burst` as long as `slack <= (n + 1) * T - 1 s`, which is more than
//! zero for every rate. Half of that is given away as slack; the other half is left for the way from here to the
//! socket. Nothing in this asks for whole rates, or for rates above one a second.
//!
//! **Why that also holds for several processes, and over restarts.** Slots are not taken from the line one by one but
//! leased in stretches, durably, by one write each ([`advance`]). A stretch belongs to one process, and slots of
//! neighbouring stretches lie at least `T` apart, so the argument above never asks whose slot it is. What a process
//! leased and did not use is lost, never used twice.

use std::{collections::VecDeque, sync::Arc};

use super::ledger::{Lease, LeaseAsk};

const SECOND_NS: i64 = 1_000_000_000;
/// How much of the line a lease covers once the line is busy: what a killed process can cost.
const LEASE_NS: i64 = 200_000_000;
/// How much of it the first lease covers: enough to outlast the write that keeps it, little enough for one row.
const FIRST_LEASE_NS: i64 = 20_000_000;
/// The next lease is asked for when less than this is left of the line: the time that its write may take.
const ASK_AHEAD_NS: i64 = 200_000_000;
/// A line that nobody leased from for so long begins again with a first lease.
const IDLE_NS: i64 = SECOND_NS;
/// A mark further ahead than this, and than [`LEASES_AHEAD`] leases of the asked size, is no mark of a sane clock.
const FAR_AHEAD_NS: i64 = 10 * SECOND_NS;
/// How many leases of the same size processes may hold in front of an asker before its clock is doubted.
const LEASES_AHEAD: i64 = 64;
/// Eleven days between two requests: nothing slower is told apart.
const LONGEST_SPACING_NS: i64 = 1_000_000 * SECOND_NS;

/// The next stretch of a line whose mark is `old` (the boot it was set under, and the end of the last lease).
///
/// - An idle line begins again at `floor`; a busy one goes on at its mark, however far ahead that is.
/// - Where the machine was started anew since, or the mark lies further ahead than any number of leases could have
///   moved it, the times cannot be compared. The line then begins after one whole second (one whole slot, where that
///   is longer), so that no window can hold both what was released before and what is released after.
pub fn advance(old: Option<(&str, i64)>, ask: &LeaseAsk) -> Lease {
    let length = ask.spacing_ns.saturating_mul(i64::from(ask.slots.max(1)));
    let start = match old {
        None => ask.floor,
        Some((boot, mark)) if boot != &*ask.boot || mark > far_ahead(ask.now, length) => {
            ask.now.saturating_add(ask.spacing_ns.max(SECOND_NS))
        }
        Some((_, mark)) if mark < ask.floor_reset => ask.floor,
        Some((_, mark)) => mark,
    };
    Lease { start, end: start.saturating_add(length) }
}

fn far_ahead(now: i64, length: i64) -> i64 {
    now.saturating_add(length.saturating_mul(LEASES_AHEAD).max(FAR_AHEAD_NS))
}

/// A rate and a burst, in the terms of the line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    per_second: f64,
    burst: u32,
    spacing_ns: i64,
    credit_ns: i64,
    slack_ns: i64,
}

impl Pace {
    /// `per_second` is more than zero, `burst` at least 1. The spacing is rounded up, so that the rate never is.
    pub fn new(per_second: f64, burst: u32) -> Self {
        let spacing_ns = ((SECOND_NS as f64 / per_second).ceil() as i64).clamp(1, LONGEST_SPACING_NS);
        let whole = per_second.floor() as i64;
        let most_slack = whole.saturating_add(1).saturating_mul(spacing_ns).saturating_sub(SECOND_NS);
        let credit_ns = spacing_ns.saturating_mul(i64::from(burst.max(1) - 1));
        Self { per_second, burst: burst.max(1), spacing_ns, credit_ns, slack_ns: most_slack.max(0) / 2 }
    }

    /// Requests a second over any length of time.
    pub fn per_second(&self) -> f64 {
        self.per_second
    }

    /// Requests that may leave at once after a quiet time.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// The most requests that any second can hold.
    pub fn most_in_a_second(&self) -> usize {
        (self.per_second + f64::from(self.burst)).floor() as usize
    }

    /// From one slot to the next.
    pub fn spacing_ns(&self) -> i64 {
        self.spacing_ns
    }

    /// How late a slot may be used, burst aside, without being lost.
    pub fn slack_ns(&self) -> i64 {
        self.slack_ns
    }

    /// Whether a request may leave now for the slot of this time.
    pub fn is_usable(&self, slot: i64, now: i64) -> bool {
        slot <= now && slot >= self.floor_reset(now)
    }

    fn floor(&self, now: i64) -> i64 {
        now.saturating_sub(self.credit_ns)
    }

    fn floor_reset(&self, now: i64) -> i64 {
        self.floor(now).saturating_sub(self.slack_ns)
    }
}

/// When a slot comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Steady nanoseconds; not after now, for one that is ready.
    pub at: i64,
    /// Whether it is ours already. Otherwise it is an estimate: others may lease the line first.
    pub leased: bool,
}

/// One process's part of a dependency's line: the stretches that it leased and has not used up.
#[derive(Debug)]
pub struct Line {
    pace: Pace,
    /// In the order of time. Each one's `start` is its next free slot.
    stretches: VecDeque<Lease>,
    /// The end of the last lease: as far as we know, the line is free from here.
    mark: Option<i64>,
    /// How many slots the last lease had.
    leased: u32,
}

impl Line {
    /// A line of which nothing is leased yet.
    pub fn new(pace: Pace) -> Self {
        Self { pace, stretches: VecDeque::new(), mark: None, leased: 0 }
    }

    /// The pace that holds.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Another pace, from the next slot on. What is leased and near stays leased: it is a stretch of time, and the new
    /// spacing says how many slots fit into it. What lies further ahead was leased for a slower pace, and is let go;
    /// so is the mark, which the ledger knows better now.
    pub fn set_pace(&mut self, pace: Pace, now: i64) {
        self.pace = pace;
        self.mark = None;
        self.stretches.retain(|stretch| stretch.start <= now.saturating_add(SECOND_NS));
    }

    /// Takes the next slot if its time has come by then, and says when that is. A request that leaves at `by` may use it.
    pub fn take(&mut self, by: i64) -> Option<i64> {
        self.settle(by);
        let stretch = self.stretches.front_mut().filter(|stretch| stretch.start <= by)?;
        let slot = stretch.start;
        stretch.start += self.pace.spacing_ns;
        Some(slot)
    }

    /// How many slots could be taken right now.
    pub fn ready(&mut self, now: i64) -> usize {
        self.settle(now);
        let due = |stretch: &Lease| {
            let passed = now.saturating_sub(stretch.start);
            if passed < 0 { 0 } else { (passed / self.pace.spacing_ns + 1).min(self.fitting(stretch)) }
        };
        self.stretches.iter().map(due).sum::<i64>() as usize
    }

    /// When the slot comes that has `position` free ones before it.
    pub fn slot(&mut self, position: usize, now: i64) -> Slot {
        self.settle(now);
        let spacing = self.pace.spacing_ns;
        let mut before = i64::try_from(position).unwrap_or(i64::MAX);
        for stretch in &self.stretches {
            let fitting = self.fitting(stretch);
            if before < fitting {
                return Slot { at: stretch.start + before * spacing, leased: true };
            }
            before -= fitting;
        }
        let free_from = self.mark.unwrap_or(i64::MIN).max(self.pace.floor(now));
        Slot { at: free_from.saturating_add(before.saturating_mul(spacing)), leased: false }
    }

    /// From when on the next lease should be asked for by whoever needs slots.
    pub fn ask_at(&self) -> i64 {
        self.mark.map_or(i64::MIN, |mark| mark.saturating_sub(ASK_AHEAD_NS))
    }

    /// The next lease to ask for. Leases begin small, so that a process with one row to send does not hold the line
    /// up, and double while there is use for them.
    pub fn ask(&self, dependency: &str, boot: Arc<str>, now: i64) -> LeaseAsk {
        let spacing_ns = self.pace.spacing_ns;
        let idle = self.mark.is_none_or(|mark| mark < now.saturating_sub(IDLE_NS));
        let wished = if idle { 1 } else { self.leased.saturating_mul(2) };
        let slots_in = |length: i64| u32::try_from(length / spacing_ns).unwrap_or(u32::MAX).max(1);
        LeaseAsk {
            dependency: dependency.to_owned(),
            boot,
            now,
            floor_reset: self.pace.floor_reset(now),
            floor: self.pace.floor(now),
            spacing_ns,
            slots: wished.clamp(slots_in(FIRST_LEASE_NS), slots_in(LEASE_NS)),
        }
    }

    /// Takes over a lease. One that continues the last stretch makes it longer: no slot is lost at the seam.
    pub fn grant(&mut self, ask: &LeaseAsk, lease: Lease) {
        self.leased = ask.slots;
        self.mark = Some(lease.end);
        match self.stretches.back_mut() {
            Some(last) if last.end == lease.start => last.end = lease.end,
            _ => self.stretches.push_back(lease),
        }
    }

    /// Moves what is too old up to the earliest slot that still counts, and lets go of stretches with no slot left.
    fn settle(&mut self, now: i64) {
        let (floor, floor_reset) = (self.pace.floor(now), self.pace.floor_reset(now));
        while let Some(stretch) = self.stretches.front_mut() {
            if stretch.start < floor_reset {
                stretch.start = floor;
            }
            if stretch.end.saturating_sub(stretch.start) >= self.pace.spacing_ns {
                break;
            }
            self.stretches.pop_front();
        }
    }

    fn fitting(&self, stretch: &Lease) -> i64 {
        (stretch.end.saturating_sub(stretch.start) / self.pace.spacing_ns).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn ask(pace: Pace, now: i64, slots: u32) -> LeaseAsk {
        LeaseAsk { slots, ..Line::new(pace).ask("addresses", "boot-1".into(), now) }
    }

    #[test]
    fn slack_lies_within_what_the_argument_allows() {
        for (per_second, burst) in [(50.0, 1), (49.99, 3), (0.1, 1), (1.5, 2), (40_000.0, 100), (1e12, 1), (1e-9, 1)] {
            let pace = Pace::new(per_second, burst);
            let length = i128::from(SECOND_NS) + i128::from(pace.credit_ns) + i128::from(pace.slack_ns);
            let slots = (length + i128::from(pace.spacing_ns) - 1) / i128::from(pace.spacing_ns);
            assert!(slots <= pace.most_in_a_second() as i128, "{per_second} + {burst}: {slots}");
        }
    }

    #[test]
    fn a_busy_line_goes_on_at_its_mark_and_an_idle_one_at_the_floor() {
        let ask = ask(Pace::new(50.0, 3), 1_000 * MS, 5);
        let lease = |old| advance(old, &ask);
        assert_eq!(lease(None), Lease { start: 960 * MS, end: 1_060 * MS });
        assert_eq!(lease(Some(("boot-1", 1_300 * MS))), Lease { start: 1_300 * MS, end: 1_400 * MS });
        assert_eq!(lease(Some(("boot-1", 955 * MS))).start, 955 * MS, "late, but within the slack");
        assert_eq!(lease(Some(("boot-1", 940 * MS))).start, 960 * MS);
    }

    #[test]
    fn a_clock_that_cannot_be_trusted_makes_the_line_wait_a_second() {
        let ask = ask(Pace::new(50.0, 3), 1_000 * MS, 5);
        for old in [("boot-0", 0), ("boot-0", 1_010 * MS), ("boot-1", 3_600_000 * MS)] {
            assert_eq!(advance(Some(old), &ask).start, 2_000 * MS, "{old:?}");
        }
        let slow = Pace::new(0.1, 1);
        let ask = self::ask(slow, 1_000 * MS, 1);
        assert_eq!(advance(Some(("boot-1", 500_000 * MS)), &ask).start, 500_000 * MS, "fifty processes may be waiting");
        assert_eq!(advance(Some(("boot-0", 0)), &ask).start, 11_000 * MS);
    }

    #[test]
    fn a_quiet_line_gives_its_burst_at_once_and_then_one_slot_a_spacing() {
        let pace = Pace::new(10.0, 3);
        let mut line = Line::new(pace);
        let ask = LeaseAsk { slots: 10, ..line.ask("addresses", "boot-1".into(), 5_000 * MS) };
        line.grant(&ask, advance(None, &ask));
        assert_eq!(line.ready(5_000 * MS), 3);
        assert_eq!((0..9).filter(|_| line.take(5_000 * MS).is_some()).count(), 3);
        assert_eq!(line.slot(0, 5_000 * MS), Slot { at: 5_100 * MS, leased: true });
        assert_eq!([5_099, 5_100, 5_100].map(|at| line.take(at * MS)), [None, Some(5_100 * MS), None]);
        assert_eq!(line.slot(60, 5_100 * MS), Slot { at: 11_200 * MS, leased: false });
    }

    #[test]
    fn leases_double_while_the_line_is_busy_and_begin_small_after_a_quiet_time() {
        let mut line = Line::new(Pace::new(1_000.0, 1));
        let mut now = SECOND_NS;
        let mut sizes = Vec::new();
        for _ in 0..6 {
            let ask = line.ask("addresses", "boot-1".into(), now);
            let lease = advance(line.mark.map(|mark| ("boot-1", mark)), &ask);
            line.grant(&ask, lease);
            sizes.push(ask.slots);
            now = lease.end;
        }
        assert_eq!(sizes, [20, 40, 80, 160, 200, 200]);
        assert_eq!(line.ask("addresses", "boot-1".into(), now + 2 * SECOND_NS).slots, 20);
    }

    #[test]
    fn another_pace_holds_within_what_is_leased() {
        let mut line = Line::new(Pace::new(100.0, 1));
        let ask = LeaseAsk { slots: 20, ..line.ask("addresses", "boot-1".into(), 0) };
        line.grant(&ask, advance(None, &ask));
        assert!(line.take(0).is_some());
        line.set_pace(Pace::new(20.0, 1), 10 * MS);
        assert_eq!([10, 59, 60].map(|at| line.take(at * MS).is_some()), [true, false, true]);
        assert_eq!(line.slot(0, 60 * MS), Slot { at: 110 * MS, leased: true }, "one more fits into the lease");
        assert!(!line.slot(1, 60 * MS).leased && line.ask_at() < 0, "the ledger is asked for the rest");
    }
}
