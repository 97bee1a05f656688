//! One dependency while it is being called: its permits, its gate, and what is reserved of it.
//!
//! A permit is a slot of the rate, a place among the requests under way, and an open gate: all of them or none. It is
//! taken at the instant of release by the thread that makes the call, under one short lock; nothing is written to disk
//! and no request is made while the lock is held.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rand::RngExt;

use super::{
    client::Client,
    gate::{Gate, GateState, Pass, Signal},
    ledger::{Ledger, LedgerError},
    rate::Line,
};
use crate::{
    clock::Clock,
    model::{Dependency, Timestamp},
};

/// Rows are claimed for calls that can leave within this time.
const CLAIM_AHEAD_NS: i64 = 1_000_000_000;
/// How long a caller is told to wait where the ledger does not answer.
const LEDGER_AGAIN: Duration = Duration::from_secs(1);
/// Calls are counted by the second, for a minute.
const SECONDS: usize = 60;

/// A dependency, shared by all who call it.
pub(super) struct Gatekeeper {
    pub(super) settings: Dependency,
    pub(super) client: Client,
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    line: Line,
    rate: f64,
    gate: Gate,
    in_flight: u32,
    /// Calls that rows which are being worked have still to make.
    reserved: u32,
    /// Who waits for a permit, in order.
    waiting: VecDeque<u64>,
    next_ticket: u64,
    leasing: bool,
    closed: bool,
    calls: CallsByTheSecond,
}

/// No permit now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// When it is worth asking again.
    pub until: Timestamp,
}

/// One request may leave. Dropped without an outcome it counts as no answer at all.
pub struct Permit {
    gatekeeper: Arc<Gatekeeper>,
    /// Whether it is the probe of a closed gate.
    pub(super) probe: bool,
    ended: bool,
}

/// What a thread that waits for a permit finds.
enum Turn {
    Taken {
        probe: bool,
    },
    /// A stretch of the line has to be leased first.
    Lease,
    /// Not before so many nanoseconds.
    In(i64),
    /// When somebody tells.
    WhenTold,
    Never(Timestamp),
}

impl Gatekeeper {
    pub(super) fn new(settings: Dependency, ledger: Arc<dyn Ledger>, clock: Clock) -> Result<Self, LedgerError> {
        let kept = ledger.load(&settings.name)?;
        let rate = kept.as_ref().and_then(|kept| kept.rate_per_second).unwrap_or(settings.rate_per_second);
        let gate = kept.map(|kept| kept.gate).unwrap_or_default();
        Ok(Self {
            client: Client::new(&settings),
            state: Mutex::new(State {
                line: Line::new(rate, settings.burst),
                rate,
                gate: Gate::new(gate, settings.gate_after),
                in_flight: 0,
                reserved: 0,
                waiting: VecDeque::new(),
                next_ticket: 0,
                leasing: false,
                closed: false,
                calls: CallsByTheSecond::default(),
            }),
            changed: Condvar::new(),
            settings,
            ledger,
            clock,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A permit, waited for at most `patience`, in order of arrival.
    pub(super) fn permit(self: &Arc<Self>, patience: Duration) -> Result<Permit, Wait> {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(ticket);
        let ended = loop {
            let wait = match self.turn(&mut state, ticket) {
                Turn::Taken { probe } => break Ok(probe),
                Turn::Never(until) => break Err(Wait { until }),
                Turn::Lease => {
                    state = match self.lease(state) {
                        Ok(state) => state,
                        Err(until) => {
                            state = self.lock();
                            break Err(Wait { until });
                        }
                    };
                    continue;
                }
                Turn::In(nanos) => Some(Duration::from_nanos(nanos.max(0) as u64)),
                Turn::WhenTold => None,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let behind = state.line.spacing().saturating_mul(state.position(ticket));
            let predicted = wait.unwrap_or_default() + Duration::from_nanos(behind.max(0) as u64);
            if left.is_zero() || predicted > left {
                break Err(Wait { until: self.clock.now().after(predicted.max(left)) });
            }
            let waited = self.changed.wait_timeout(state, wait.unwrap_or(left).min(left));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        state.waiting.retain(|waiting| *waiting != ticket);
        drop(state);
        self.changed.notify_all();
        let probe = ended?;
        Ok(Permit { gatekeeper: self.clone(), probe, ended: false })
    }

    fn turn(&self, state: &mut State, ticket: u64) -> Turn {
        let now = self.clock.now();
        if state.closed {
            return Turn::Never(now);
        }
        let probe = match state.gate.pass(now) {
            Pass::Open => false,
            Pass::Probe => true,
            Pass::Closed(until) => return Turn::Never(until),
        };
        if state.waiting.front() != Some(&ticket) || state.in_flight >= self.settings.concurrency {
            return Turn::WhenTold;
        }
        let steady = self.clock.steady();
        let Some(slot) = state.line.next_slot(steady) else {
            return if state.leasing { Turn::WhenTold } else { Turn::Lease };
        };
        if slot > steady {
            return if state.line.runs_low() && !state.leasing { Turn::Lease } else { Turn::In(slot - steady) };
        }
        state.line.take();
        state.in_flight += 1;
        state.gate.begin(probe);
        state.calls.count(steady);
        Turn::Taken { probe }
    }

    /// Leases more of the line, without the lock.
    fn lease<'a>(&'a self, mut state: MutexGuard<'a, State>) -> Result<MutexGuard<'a, State>, Timestamp> {
        state.leasing = true;
        let ask = state.line.ask(&self.settings.name, self.clock.boot(), self.clock.steady());
        drop(state);
        let leased = self.ledger.lease(&ask);
        let mut state = self.lock();
        state.leasing = false;
        self.changed.notify_all();
        match leased {
            Ok(lease) => {
                state.line.extend(lease);
                Ok(state)
            }
            Err(error) => {
                tracing::error!(dependency = self.settings.name, %error, "no calls can leave");
                Err(self.clock.now().after(LEDGER_AGAIN))
            }
        }
    }

    fn end(&self, probe: bool, signal: Signal) {
        let now = self.clock.now();
        let mut state = self.lock();
        state.in_flight -= 1;
        let changed = state.gate.end(probe, signal, now, rand::rng().random());
        let gate = state.gate.state();
        drop(state);
        self.changed.notify_all();
        if changed {
            self.keep_gate(gate);
        }
    }

    fn keep_gate(&self, gate: GateState) {
        let dependency = &self.settings.name;
        match gate.closed {
            Some(closed) => {
                tracing::warn!(dependency, until = %closed.until, reason = %closed.reason, "the gate is closed");
            }
            None => tracing::info!(dependency, "the gate is open"),
        }
        if let Err(error) = self.ledger.save_gate(dependency, &gate) {
            tracing::error!(dependency, %error, "the gate's state could not be kept");
        }
    }

    /// How many rows that make `need` calls could be started now; `first` says that the next call is to this
    /// dependency. At most a second's worth of calls is ever reserved, so that rows wait in the database and not here.
    pub(super) fn room(&self, need: u32, first: bool) -> usize {
        let state = self.lock();
        let limit = match state.gate.pass(self.clock.now()) {
            Pass::Open => usize::MAX,
            Pass::Probe if state.reserved == 0 => 1,
            Pass::Probe | Pass::Closed(_) => 0,
        };
        let steady = self.clock.steady();
        if first && state.line.earliest(steady) - steady > CLAIM_AHEAD_NS {
            return 0;
        }
        let by_rate = state.rate + f64::from(self.settings.burst);
        let budget = by_rate.min(2.0 * f64::from(self.settings.concurrency)) as u32;
        let rows = match (budget.saturating_sub(state.reserved)) / need.max(1) {
            0 if state.reserved == 0 => 1,
            rows => rows as usize,
        };
        rows.min(limit)
    }

    /// Reserves calls.
    pub(super) fn reserve(&self, calls: u32) {
        self.lock().reserved += calls;
    }

    /// Calls that were reserved were made, or will not be.
    pub(super) fn unreserve(&self, calls: u32) {
        let mut state = self.lock();
        state.reserved = state.reserved.saturating_sub(calls);
    }

    /// Until when the gate is closed.
    pub(super) fn closed_until(&self) -> Option<Timestamp> {
        self.lock().gate.state().closed.map(|closed| closed.until)
    }

    /// Takes over what other processes changed.
    pub(super) fn refresh(&self) {
        if let Ok(Some(kept)) = self.ledger.load(&self.settings.name) {
            let mut state = self.lock();
            state.gate.set_state(kept.gate);
            drop(state);
            self.set_rate(kept.rate_per_second.unwrap_or(self.settings.rate_per_second));
        }
    }

    /// Another rate, from the next request on.
    pub(super) fn set_rate(&self, rate: f64) {
        let mut state = self.lock();
        if state.rate != rate {
            state.rate = rate;
            state.line.set_rate(rate);
            drop(state);
            self.changed.notify_all();
        }
    }

    pub(super) fn status(&self) -> super::DependencyStatus {
        let mut state = self.lock();
        let closed = state.gate.state().closed;
        super::DependencyStatus {
            name: self.settings.name.clone(),
            rate_per_second: state.rate,
            burst: self.settings.burst,
            concurrency: self.settings.concurrency,
            in_flight: state.in_flight,
            calls_last_minute: state.calls.last_minute(self.clock.steady()),
            gate: super::GateStatus {
                open: closed.is_none(),
                until: closed.map(|closed| closed.until),
                reason: closed.map(|closed| closed.reason.to_string()),
            },
        }
    }

    /// Nothing leaves any more; whoever waits is told.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

impl State {
    /// How many wait in front of this ticket.
    fn position(&self, ticket: u64) -> i64 {
        self.waiting.iter().take_while(|waiting| **waiting != ticket).count() as i64
    }
}

impl Permit {
    /// The dependency that it is for.
    pub(super) fn gatekeeper(&self) -> &Arc<Gatekeeper> {
        &self.gatekeeper
    }

    /// Gives the place back, and tells the gate how it went.
    pub(super) fn end(mut self, signal: Signal) {
        self.ended = true;
        self.gatekeeper.end(self.probe, signal);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.ended {
            self.gatekeeper.end(self.probe, Signal::Failed);
        }
    }
}

/// How many calls left in each of the last sixty seconds.
struct CallsByTheSecond {
    counts: [u32; SECONDS],
    second: i64,
}

impl Default for CallsByTheSecond {
    fn default() -> Self {
        Self { counts: [0; SECONDS], second: 0 }
    }
}

impl CallsByTheSecond {
    fn move_to(&mut self, steady_ns: i64) -> usize {
        let second = steady_ns / 1_000_000_000;
        for passed in (self.second + 1..=second).rev().take(SECONDS) {
            self.counts[passed.rem_euclid(SECONDS as i64) as usize] = 0;
        }
        self.second = self.second.max(second);
        self.second.rem_euclid(SECONDS as i64) as usize
    }

    fn count(&mut self, steady_ns: i64) {
        let at = self.move_to(steady_ns);
        self.counts[at] += 1;
    }

    fn last_minute(&mut self, steady_ns: i64) -> u32 {
        self.move_to(steady_ns);
        self.counts.iter().sum()
    }
}
