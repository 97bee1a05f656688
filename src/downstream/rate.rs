//! How fast a dependency may be called: slots on a line of steady nanoseconds. Pure arithmetic: no clock, no lock, no
//! store.

use std::sync::Arc;

use super::ledger::{Lease, LeaseAsk};

/// A mark further ahead than this, and than [`LEASES_AHEAD`] leases of the asked size, is no mark of a sane clock.
const FAR_AHEAD_NS: i64 = 10 * SECOND_NS;
/// How many leases of the same size processes may hold in front of an asker before its clock is doubted.
const LEASES_AHEAD: i64 = 64;
const SECOND_NS: i64 = 1_000_000_000;

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

/// How much of the line is leased at once: what a crash can waste, and how often the lease has to be written down.
const LEASED_AHEAD_NS: i64 = 200_000_000;

/// The part of a dependency's line that this process has leased, and where its next slot is.
///
/// Slots lie at least `spacing` (1 / rate) apart, whoever leased them. A slot may be used from its time on, and is
/// lost `(burst - 1) * spacing + slack` later. So the slots used within a half-open window of one second all lie
/// within a stretch of the line that is `(burst - 1) * spacing + slack` longer, and there are at most
/// `ceil(rate + burst - 1 + slack / spacing)` of them. With `slack / spacing` no larger than one minus the rate's
/// fraction, that is at most `floor(rate + burst)`. Half of that slack is used: it lets a thread that wakes up late
/// use its slot all the same, which is what keeps the rate at its limit.
#[derive(Debug)]
pub(super) struct Line {
    spacing: i64,
    burst: u32,
    slack: i64,
    next: i64,
    leased_until: i64,
}

impl Line {
    pub(super) fn new(rate: f64, burst: u32) -> Self {
        let mut line = Self { spacing: 1, burst, slack: 0, next: i64::MIN, leased_until: i64::MIN };
        line.set_rate(rate);
        line
    }

    /// Another rate, from the next slot on; what is leased at the old one is given up.
    pub(super) fn set_rate(&mut self, rate: f64) {
        let spacing = SECOND_NS as f64 / rate;
        self.spacing = (spacing as i64).max(1);
        self.slack = (spacing * (1.0 - rate.fract()) / 2.0) as i64;
        self.leased_until = self.next;
    }

    pub(super) fn spacing(&self) -> i64 {
        self.spacing
    }

    /// The earliest slot that an idle line gives: `burst - 1` slots ago.
    fn floor(&self, now: i64) -> i64 {
        now.saturating_sub(self.spacing.saturating_mul(i64::from(self.burst) - 1))
    }

    /// Slots that lie too far back are lost.
    fn forget_lost(&mut self, now: i64) {
        let floor = self.floor(now);
        if self.next < floor.saturating_sub(self.slack) {
            self.next = floor;
        }
    }

    /// When the next leased slot can be used; `None` where nothing is leased any more. A slot needs its whole spacing
    /// within the lease: whoever leased the stretch behind it begins right at the end.
    pub(super) fn next_slot(&mut self, now: i64) -> Option<i64> {
        self.forget_lost(now);
        (self.next.saturating_add(self.spacing) <= self.leased_until).then_some(self.next)
    }

    /// When a slot can be used at the earliest, leased or not, as far as this process knows.
    pub(super) fn earliest(&self, now: i64) -> i64 {
        self.next.max(self.floor(now))
    }

    /// Uses the next slot.
    pub(super) fn take(&mut self) {
        self.next = self.next.saturating_add(self.spacing);
    }

    /// Whether it is time to lease more, so that the write does not cost a slot.
    pub(super) fn runs_low(&self) -> bool {
        self.leased_until.saturating_sub(self.next) < LEASED_AHEAD_NS / 2
    }

    /// What to ask the ledger for.
    pub(super) fn ask(&self, dependency: &str, boot: Arc<str>, now: i64) -> LeaseAsk {
        let floor = self.floor(now);
        LeaseAsk {
            dependency: dependency.to_owned(),
            boot,
            now,
            floor_reset: floor.saturating_sub(self.slack),
            floor,
            spacing_ns: self.spacing,
            slots: u32::try_from((LEASED_AHEAD_NS / self.spacing).max(1)).unwrap_or(u32::MAX),
        }
    }

    /// A lease came. One that follows what is left of the last one joins it; where somebody else's lies between, what
    /// is left is given up.
    pub(super) fn extend(&mut self, lease: Lease) {
        let follows = lease.start == self.leased_until;
        self.next = if follows { self.next.min(lease.start) } else { lease.start };
        self.leased_until = lease.end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A process that always has work, and comes to it with a delay.
    struct Process {
        line: Line,
        boot: Arc<str>,
    }

    type Mark = Option<(String, i64)>;

    impl Process {
        fn new(rate: f64, burst: u32, boot: &str) -> Self {
            Self { line: Line::new(rate, burst), boot: boot.into() }
        }

        /// Uses a slot at `now` if there is one.
        fn try_release(&mut self, now: i64, mark: &mut Mark) -> bool {
            let slot = match self.line.next_slot(now) {
                Some(slot) => slot,
                None => {
                    let ask = self.line.ask("d", self.boot.clone(), now);
                    let lease = advance(mark.as_ref().map(|(boot, at)| (boot.as_str(), *at)), &ask);
                    *mark = Some((self.boot.to_string(), lease.end));
                    self.line.extend(lease);
                    match self.line.next_slot(now) {
                        Some(slot) => slot,
                        None => return false,
                    }
                }
            };
            let free = slot <= now;
            if free {
                self.line.take();
            }
            free
        }
    }

    fn busiest_second(releases: &[i64]) -> usize {
        let mut busiest = 0;
        let mut first = 0;
        for (last, at) in releases.iter().enumerate() {
            while releases[first] <= at - SECOND_NS {
                first += 1;
            }
            busiest = busiest.max(last - first + 1);
        }
        busiest
    }

    proptest! {
        #[test]
        fn no_second_ever_holds_more_than_rate_and_burst(
            rate in prop_oneof![0.3_f64..3.0, 3.0_f64..80.0, Just(50.0), Just(7.0)],
            burst in 1_u32..6,
            events in prop::collection::vec((0_u8..12, 0_i64..60_000_000), 200..900),
        ) {
            let mut mark = None;
            let mut processes = [Process::new(rate, burst, "boot-1"), Process::new(rate, burst, "boot-1")];
            let (mut steady, mut real, mut boot) = (5 * SECOND_NS, 5 * SECOND_NS, 1);
            let mut releases = Vec::new();
            for (what, delay) in events {
                // Real time passes; steady time with it.
                let delay = if what == 11 { delay * 40 } else { delay };
                (steady, real) = (steady + delay, real + delay);
                match what {
                    // A kill and restart: what was leased is lost.
                    8 => processes[0] = Process::new(rate, burst, &format!("boot-{boot}")),
                    // A reboot: steady time begins anew, anywhere.
                    9 => {
                        boot += 1;
                        steady = delay * 100;
                        processes = [0, 1].map(|_| Process::new(rate, burst, &format!("boot-{boot}")));
                    }
                    // The commands beside the server.
                    10 => while processes[1].try_release(steady, &mut mark) { releases.push(real) },
                    _ => while processes[0].try_release(steady, &mut mark) { releases.push(real) },
                }
            }
            let limit = (rate + f64::from(burst)).floor() as usize;
            prop_assert!(busiest_second(&releases) <= limit, "{} > {limit}", busiest_second(&releases));
        }

        #[test]
        fn with_work_at_hand_the_rate_is_reached(
            rate in prop_oneof![1.0_f64..3.0, Just(20.0), Just(50.0), Just(200.0)],
            burst in 1_u32..6,
            lateness in prop::collection::vec(0.0_f64..1.0, 64),
        ) {
            let mut process = Process::new(rate, burst, "boot-1");
            let mut mark = None;
            let (start, length) = (5 * SECOND_NS, 100 * SECOND_NS);
            let (mut now, mut released, mut woken) = (start, 0_u32, 0);
            while now < start + length {
                if process.try_release(now, &mut mark) {
                    released += 1;
                    continue;
                }
                // The thread sleeps until the slot, and wakes up a little late.
                let slot = process.line.next_slot(now).unwrap_or(now + 1_000);
                let late = (process.line.slack as f64 * lateness[woken % lateness.len()]) as i64;
                woken += 1;
                now = slot.max(now) + late;
            }
            let utilisation = f64::from(released) / (rate * (length / SECOND_NS) as f64);
            prop_assert!(utilisation >= 0.99, "{utilisation}");
        }
    }
}
