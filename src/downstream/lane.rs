//! A lane: everything that decides when a dependency may be called, behind one lock. Its line of slots, its
//! concurrency, its gate, who waits for it, and who has reserved a call.
//!
//! The lock is held for arithmetic only, never over I/O: the ledger is the bookkeeper's business (`bookkeeper`), which
//! takes what it has to write from here and brings back what it read. Waiting is in `permit`, reserving in `admission`.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::Thread,
    time::Duration,
};

use super::{
    adapt::Adapt,
    advice::{Advice, Quota},
    alarms::Alarms,
    calls::Calls,
    concurrency::Concurrency,
    gate::{Gate, GateState, Health, Now, Passage},
    lack::Lacking,
    ledger::{DependencyState, Lease, LeaseAsk},
    meter::Meter,
    permit::{Before, Queue},
    places::Places,
    rate::{Line, Pace, Slot},
};
use crate::{clock::Clock, model::Dependency};

/// Called whenever there may be room for rows that there was none for. It must be quick, and not call back in.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// After the ledger failed, it is left alone for so long.
pub const LEDGER_PAUSE: Duration = Duration::from_secs(1);

/// Another pace asks for another lease, so changes smaller than this share of it wait until there are more.
const WORTH_A_LEASE: f64 = 0.02;

/// One dependency's way out.
pub struct Lane {
    pub(super) settings: Dependency,
    pub(super) clock: Clock,
    pub(super) wake: Wake,
    pub(super) meter: Arc<dyn Meter>,
    pub(super) alarms: Alarms,
    pub(super) places: Arc<Places>,
    bookkeeper: OnceLock<Thread>,
    state: Mutex<State>,
}

/// What the lock guards.
pub(super) struct State {
    /// As configured, or as somebody has set it: requests a second that are never exceeded.
    pub rate: f64,
    /// Which part of it is made use of.
    adapt: Adapt,
    /// What answers say that is left.
    pub quota: Quota,
    pub line: Line,
    pub gate: Gate,
    pub concurrency: Concurrency,
    pub in_flight: u32,
    /// Places that rows have here.
    pub held: usize,
    pub lacking: Lacking,
    pub queue: Queue,
    /// Calls that claimed rows are going to make.
    pub reserved: usize,
    pub calls: Calls,
    /// Whether the bookkeeper is to get a lease.
    pub wants_lease: bool,
    /// Steady time; before it the ledger is not asked again.
    pub ledger_rests_until: i64,
    gate_unsaved: bool,
    /// Counts changes made here, so that something read from the ledger before one of them does not undo it.
    revision: u64,
    pub closing: bool,
}

impl Lane {
    /// The lane of a dependency, as it was kept.
    pub fn new(
        settings: Dependency,
        kept: Option<DependencyState>,
        clock: Clock,
        wake: Wake,
        meter: Arc<dyn Meter>,
        alarms: Alarms,
        places: Arc<Places>,
    ) -> Self {
        let kept = kept.unwrap_or(DependencyState { rate_per_second: None, gate: GateState::default() });
        let rate = kept.rate_per_second.unwrap_or(settings.rate_per_second);
        let now = Now { steady: clock.steady(), wall: clock.now() };
        let state = State {
            rate,
            adapt: Adapt::new(settings.adapt),
            quota: Quota::default(),
            line: Line::new(Pace::new(rate, settings.burst)),
            gate: Gate::new(kept.gate, settings.gate_after, settings.max_retry_after, now),
            concurrency: Concurrency::new(settings.concurrency, settings.max_concurrency, rate),
            in_flight: 0,
            held: 0,
            lacking: Lacking::default(),
            queue: Queue::default(),
            reserved: 0,
            calls: Calls::new(),
            wants_lease: false,
            ledger_rests_until: i64::MIN,
            gate_unsaved: false,
            revision: 0,
            closing: false,
        };
        Self { settings, clock, wake, meter, alarms, places, bookkeeper: OnceLock::new(), state: Mutex::new(state) }
    }

    /// Who is to be woken when the ledger has to be read or written.
    pub(super) fn set_bookkeeper(&self, thread: Thread) {
        let _ = self.bookkeeper.set(thread);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Now {
        Now { steady: self.clock.steady(), wall: self.clock.now() }
    }

    pub(super) fn poke_bookkeeper(&self) {
        if let Some(thread) = self.bookkeeper.get() {
            thread.unpark();
        }
    }

    /// Another rate, from the next request on.
    pub fn set_rate(&self, per_second: f64) {
        let mut state = self.lock();
        state.revision += 1;
        state.set_rate(per_second, self.clock.steady());
        let woken = state.queue.first();
        drop(state);
        Queue::wake(woken);
        (self.wake)();
    }

    /// No permit is given any more; whoever waits for one goes home.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        let woken = state.queue.all();
        drop(state);
        Queue::wake(woken);
    }

    /// An answer's headers say how much is left.
    pub(super) fn heed(&self, passage: Passage, advice: Advice) {
        if self.settings.adapt {
            let now = self.clock.steady();
            let mut state = self.lock();
            let last = state.gate.last();
            state.quota.on_advice(advice, passage.number(), last, now);
        }
    }

    /// A request has ended (`Some`), or was never sent; `once_more`: its row was turned away before. Says how the gate was until
    /// then.
    pub(super) fn end(&self, passage: Passage, health: Option<Health>, once_more: bool) -> Before {
        let now = self.now();
        let mut state = self.lock();
        let was_full = state.in_flight >= state.most_under_way(now.steady);
        let was_open = state.gate.is_open();
        let takes_others = state.gate.takes_others(passage);
        state.measure(passage, health, now.steady);
        state.follow(passage, health, once_more, now.steady);
        state.in_flight -= 1;
        let closings = state.gate.state().closings;
        let changed = match health {
            Some(health) => state.gate.report(passage, health, now, &mut rand::rng()),
            None => state.gate.not_sent(passage),
        };
        if changed {
            state.gate_changed();
            if was_open != state.gate.is_open() || (!was_open && health.is_some()) {
                self.log_gate(state.gate.state());
            }
            if let GateState { closed: Some(closed), closings: now, .. } = state.gate.state()
                && now > closings
            {
                self.meter.gate_closed(closed.reason);
            }
        }
        if passage.is_risky() && health.is_some() && state.gate.closed(now).is_some() && !state.gate.may_risk() {
            let dependency = &self.settings.name;
            tracing::warn!(
                event = "gate.asks_for_a_person",
                dependency,
                "no more requests that are never sent twice find out whether the gate may open; a row that is run by hand does"
            );
        }
        let woken = match (changed, was_full || passage.is_probe()) {
            (true, _) => state.queue.all(),
            (false, true) => state.queue.first(),
            (false, false) => Vec::new(),
        };
        drop(state);
        Queue::wake(woken);
        if changed {
            self.poke_bookkeeper();
        }
        (self.wake)();
        Before { was_open, takes_others }
    }

    fn log_gate(&self, gate: GateState) {
        let dependency = &self.settings.name;
        match gate.closed {
            Some(closed) => tracing::warn!(
                event = "gate.closed",
                dependency,
                until = %closed.until,
                reason = %closed.reason,
                "gate closed"
            ),
            None => tracing::info!(event = "gate.opened", dependency, "gate open again"),
        }
    }

    /// The lease that somebody needs, if any.
    pub(super) fn wanted_lease(&self) -> Option<LeaseAsk> {
        let state = self.lock();
        let ask = || state.line.ask(&self.settings.name, self.clock.boot(), self.clock.steady());
        state.wants_lease.then(ask)
    }

    /// What the ledger said to it; `None` where it failed.
    pub(super) fn leased(&self, ask: &LeaseAsk, lease: Option<Lease>) {
        let mut state = self.lock();
        state.wants_lease = false;
        let woken = match lease {
            Some(lease) => {
                state.line.grant(ask, lease);
                state.queue.first()
            }
            None => {
                state.ledger_rests_until = self.clock.steady().saturating_add(LEDGER_PAUSE.as_nanos() as i64);
                state.queue.all()
            }
        };
        drop(state);
        Queue::wake(woken);
    }

    /// The gate, where it changed since it was last asked for here.
    pub(super) fn unsaved_gate(&self) -> Option<GateState> {
        let mut state = self.lock();
        std::mem::take(&mut state.gate_unsaved).then(|| state.gate.state())
    }

    /// The gate could not be saved after all.
    pub(super) fn gate_not_saved(&self) {
        self.lock().gate_unsaved = true;
    }

    /// To be asked before reading what [`Lane::adopt`] is given.
    pub(super) fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// Takes over what others changed, unless something changed here since `revision`.
    pub(super) fn adopt(&self, revision: u64, kept: &DependencyState) {
        let mut state = self.lock();
        let rate = kept.rate_per_second.unwrap_or(self.settings.rate_per_second);
        let same = state.gate.state() == kept.gate && state.rate == rate;
        if state.revision != revision || state.gate_unsaved || same {
            return;
        }
        state.gate.adopt(kept.gate, self.now());
        state.set_rate(rate, self.clock.steady());
        let woken = state.queue.all();
        drop(state);
        Queue::wake(woken);
        (self.wake)();
    }
}

impl State {
    /// What the gate is now has to be kept.
    pub fn gate_changed(&mut self) {
        self.revision += 1;
        self.gate_unsaved = true;
    }

    /// Takes slot, concurrency and passage together, or nothing: for a request that leaves so many nanoseconds from now.
    pub fn release(&mut self, now: Now, ahead: i64) -> Option<(Passage, i64)> {
        if self.closing || self.in_flight >= self.most_under_way(now.steady) {
            return None;
        }
        if self.quota.held_until(now.steady).is_some() {
            return None;
        }
        let passage = self.gate.passage(now).ok()?;
        let slot = self.line.take(now.steady.saturating_add(ahead))?;
        self.gate.pass(passage);
        self.quota.on_sent();
        self.concurrency.on_sent(now.steady);
        self.in_flight += 1;
        self.calls.add(now.steady);
        Some((passage, slot))
    }

    /// When a permit can be given so many nanoseconds `ahead` of the slot that has `position` free ones before it.
    pub fn slot(&mut self, position: usize, now: i64, ahead: i64) -> Slot {
        let slot = self.line.slot(position, now);
        let at = slot.at.saturating_sub(ahead);
        Slot { at: at.max(self.quota.held_until(now).unwrap_or(at)), ..slot }
    }

    /// How many requests may be under way now: fewer than the concurrency while the gate is opening, or connections are lacking.
    pub fn most_under_way(&self, now: i64) -> u32 {
        let concurrency = self.concurrency.limit();
        let allowed = self.gate.allowance().map_or(concurrency, |allowance| allowance.min(concurrency));
        self.lacking.most_under_way(now).map_or(allowed, |most| most.min(allowed))
    }

    /// A request has ended, and is still counted among those under way.
    fn measure(&mut self, passage: Passage, health: Option<Health>, now: i64) {
        let left_at = passage.left_at();
        match health {
            Some(Health::Well) => self.concurrency.on_answer(now.saturating_sub(left_at), now, self.in_flight),
            Some(Health::Failing) => self.concurrency.on_failure(left_at, now),
            Some(Health::Busy { .. } | Health::Unauthorized) | None => {}
        }
    }

    /// Whether the bookkeeper must be told that somebody uses the line and little of it is left.
    pub fn demand(&mut self, now: Now) -> bool {
        let short = self.line.ask_at() <= now.steady && self.ledger_rests_until <= now.steady;
        let news = short && !self.wants_lease;
        self.wants_lease |= short;
        news
    }

    /// Goes slower, or comes back, by what a request was answered. To be told before the gate is.
    /// One whose row was turned away before says little of the rate: it may be that row's affair, and where the rate is too high
    /// others are turned away for the first time.
    fn follow(&mut self, passage: Passage, health: Option<Health>, once_more: bool, now: i64) {
        if once_more && matches!(health, Some(Health::Busy { .. })) {
            return;
        }
        match (health, self.gate.is_late(passage)) {
            (Some(Health::Well), false) => self.adapt.on_success(self.rate),
            (Some(Health::Well), true) => self.adapt.on_late_success(),
            (Some(Health::Busy { .. }), false) => self.adapt.on_busy(self.rate, now),
            _ => return,
        }
        let (wanted, used) = (self.adapt.rate(self.rate), self.line.pace().per_second());
        if wanted == self.rate || (wanted / used - 1.0).abs() > WORTH_A_LEASE {
            self.set_pace(wanted, now);
        }
    }

    fn set_rate(&mut self, per_second: f64, now: i64) {
        self.rate = per_second;
        self.set_pace(self.adapt.rate(per_second), now);
    }

    fn set_pace(&mut self, per_second: f64, now: i64) {
        let pace = self.line.pace();
        if pace.per_second() != per_second {
            self.line.set_pace(Pace::new(per_second, pace.burst()), now);
            self.concurrency.set_rate(per_second);
        }
    }
}
