//! The promise of the limiter, over any history: several processes on one ledger, late threads, slow ledger writes,
//! restarts, reboots. No half-open second holds more than `rate + burst` releases, and a line with work loses nothing.
//!
//! The wall clock is not in here because the line never reads it: setting it cannot change anything.

use std::sync::Arc;

use dripfeed::downstream::{
    Lease, LeaseAsk,
    rate::{Line, Pace, advance},
};
use proptest::prelude::*;

const SECOND: i64 = 1_000_000_000;

/// What the ledger keeps, and a machine on which several processes share it.
struct Machine {
    mark: Option<(Arc<str>, i64)>,
    boots: u32,
    /// Since the beginning of the history: what an observer outside would measure by.
    now: i64,
    booted_at: i64,
    pace: Pace,
    processes: Vec<Process>,
    releases: Vec<i64>,
}

struct Process {
    line: Line,
    /// A lease that the ledger has kept, whose answer is still on its way.
    underway: Option<(LeaseAsk, Lease)>,
}

#[derive(Debug, Clone)]
enum Event {
    /// Time passes: the number of thousandths of a spacing.
    Pass(u32),
    /// A process sends what it may, up to so many.
    Send {
        process: usize,
        most: u8,
    },
    /// A process asks for a lease, if it needs one; the answer comes with a later event.
    Ask(usize),
    /// The ledger's answer reaches the process.
    Answer(usize),
    Restart(usize),
    Reboot,
    SetRate(f64),
}

impl Machine {
    fn new(pace: Pace, processes: usize) -> Self {
        let processes = (0..processes).map(|_| Process { line: Line::new(pace), underway: None }).collect();
        Self { mark: None, boots: 1, now: 0, booted_at: -SECOND, pace, processes, releases: Vec::new() }
    }

    fn steady(&self) -> i64 {
        self.now - self.booted_at
    }

    fn on(&mut self, event: &Event) {
        let steady = self.steady();
        match *event {
            Event::Pass(thousandths) => self.now += (self.pace.spacing_ns() / 1_000).max(1) * i64::from(thousandths),
            Event::Send { process, most } => {
                for _ in 0..most {
                    if self.processes[process].line.take(steady).is_none() {
                        break;
                    }
                    self.releases.push(self.now);
                }
            }
            Event::Ask(process) => self.ask(process),
            Event::Answer(process) => self.answer(process),
            Event::Restart(process) => {
                self.processes[process] = Process { line: Line::new(self.pace), underway: None };
            }
            Event::Reboot => {
                self.boots += 1;
                self.booted_at = self.now - 1;
                (0..self.processes.len()).for_each(|process| self.on(&Event::Restart(process)));
            }
            Event::SetRate(per_second) => {
                self.pace = Pace::new(per_second, self.pace.burst());
                self.processes.iter_mut().for_each(|process| process.line.set_pace(self.pace, steady));
            }
        }
    }

    fn ask(&mut self, process: usize) {
        let (steady, boot) = (self.steady(), Arc::from(format!("boot-{}", self.boots)));
        let Process { line, underway } = &mut self.processes[process];
        if underway.is_some() || line.ask_at() > steady {
            return;
        }
        let ask = line.ask("addresses", Arc::clone(&boot), steady);
        let lease = advance(self.mark.as_ref().map(|(boot, mark)| (&**boot, *mark)), &ask);
        self.mark = Some((boot, lease.end));
        *underway = Some((ask, lease));
    }

    fn answer(&mut self, process: usize) {
        let Process { line, underway } = &mut self.processes[process];
        if let Some((ask, lease)) = underway.take() {
            line.grant(&ask, lease);
        }
    }

    /// The most releases that any half-open second held.
    fn busiest_second(&self) -> usize {
        let mut from = 0;
        let mut most = 0;
        for (to, at) in self.releases.iter().enumerate() {
            while self.releases[from] <= at - SECOND {
                from += 1;
            }
            most = most.max(to - from + 1);
        }
        most
    }
}

const PROCESSES: usize = 3;

fn pace() -> impl Strategy<Value = Pace> {
    let rate = prop_oneof![0.05..2.0, 2.0..60.0, Just(50.0), Just(1.0), 60.0..5_000.0];
    (rate, prop_oneof![Just(1u32), 1..20u32]).prop_map(|(rate, burst)| Pace::new(rate, burst))
}

fn event() -> impl Strategy<Value = Event> {
    let process = 0..PROCESSES;
    prop_oneof![
        8 => prop_oneof![0..100u32, 0..1_500u32, 0..20_000u32].prop_map(Event::Pass),
        12 => (process.clone(), 1..8u8).prop_map(|(process, most)| Event::Send { process, most }),
        6 => process.clone().prop_map(Event::Ask),
        6 => process.clone().prop_map(Event::Answer),
        1 => process.prop_map(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_second_holds_more_than_rate_and_burst(
        pace in pace(),
        history in prop::collection::vec(prop_oneof![60 => event(), 1 => Just(Event::Reboot)], 1..1_500),
    ) {
        let mut machine = Machine::new(pace, PROCESSES);
        history.iter().for_each(|event| machine.on(event));
        prop_assert!(machine.busiest_second() <= pace.most_in_a_second(), "{pace:?}: {}", machine.busiest_second());
    }

    #[test]
    fn after_a_change_of_rate_no_second_holds_more_than_the_new_one_allows(
        pace in pace(),
        before in prop::collection::vec(event(), 1..500),
        to in 0.05..500.0f64,
        after in prop::collection::vec(event(), 1..1_000),
    ) {
        let mut machine = Machine::new(pace, PROCESSES);
        before.iter().for_each(|event| machine.on(event));
        machine.releases.clear();
        machine.on(&Event::SetRate(to));
        after.iter().for_each(|event| machine.on(event));
        prop_assert!(machine.busiest_second() <= machine.pace.most_in_a_second(), "{:?}", machine.pace);
    }

    /// Threads wake within the slack of their slot, the ledger answers within a tenth of a second.
    #[test]
    fn a_line_with_work_gives_its_whole_rate(
        rate in prop_oneof![0.2..5.0, 5.0..2_000.0f64],
        burst in 1..5u32,
        lateness in prop::collection::vec(0.0..1.0f64, 16),
        answer_after in 0..100_000_000i64,
    ) {
        let pace = Pace::new(rate, burst);
        let mut machine = Machine::new(pace, 1);
        let mut lateness = lateness.iter().cycle().map(|share| (pace.slack_ns() as f64 * share * 0.99) as i64);
        let mut late = 0;
        let mut answer_at = None;
        let seconds = (400.0 / rate).ceil().max(5.0) as i64;
        while machine.now < seconds * SECOND {
            machine.on(&Event::Ask(0));
            let line = &mut machine.processes[0].line;
            let slot = line.slot(0, machine.now - machine.booted_at);
            let in_history = |steady: i64| steady.saturating_add(machine.booted_at).max(machine.now);
            let send_at = if slot.leased { in_history(slot.at + late) } else { i64::MAX };
            let ask_at = if answer_at.is_some() { i64::MAX } else { in_history(line.ask_at()) };
            match machine.processes[0].underway {
                Some(_) if answer_at.is_none() => answer_at = Some(machine.now + answer_after),
                Some(_) if answer_at.is_some_and(|at| at <= send_at) => {
                    machine.now = answer_at.take().unwrap_or(machine.now);
                    machine.on(&Event::Answer(0));
                }
                _ if ask_at < send_at => machine.now = ask_at,
                _ => {
                    machine.now = send_at;
                    machine.on(&Event::Send { process: 0, most: 1 });
                    late = lateness.next().unwrap_or(0);
                }
            }
        }
        let due = (seconds - 1) as f64 * rate;
        prop_assert!(machine.releases.len() as f64 >= due * 0.99, "{} of {due}", machine.releases.len());
        prop_assert!(machine.busiest_second() <= pace.most_in_a_second());
    }
}
