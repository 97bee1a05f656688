//! Permits: the right to send one request, now. A permit is slot, concurrency and gate in one: all of them are taken
//! at the instant of release, by the thread that is going to send, or none is. Nothing burns while another refuses.
//!
//! Threads that have to wait stand in a queue. Only the first one has an alarm set, for its slot; the others sleep
//! until they are first, so that no slot wakes a crowd. A thread that finds more slots ready than others are waiting
//! for does not queue at all: at high rates that is every thread, and a permit costs one uncontended lock.

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    thread::{self, Thread},
    time::Duration,
};

use super::{
    advice::Advice,
    gate::{GateReason, Health, Now, Passage, Shut},
    lane::{Lane, State},
};
use crate::model::Timestamp;

/// The log target under which each release is told, at the level `trace`.
pub const RELEASES: &str = "dripfeed::releases";
/// When to come back where nobody can say when there will be room: a call must end first.
const COME_BACK: Duration = Duration::from_secs(1);

/// The right to send one request. Dropped without a report, it counts as never sent.
#[must_use]
pub struct Permit {
    lane: Arc<Lane>,
    passage: Passage,
    ended: bool,
}

impl Permit {
    /// Whether this request finds out if a closed gate may open.
    pub fn is_probe(&self) -> bool {
        self.passage.is_probe()
    }

    /// The name of the dependency that it is for.
    pub fn dependency(&self) -> &str {
        &self.lane.settings.name
    }

    /// What its answer says of how much is left.
    pub(super) fn heed(&self, advice: Advice) {
        self.lane.heed(self.passage, advice);
    }

    /// The request has ended. Says how the gate was until then.
    pub(super) fn report(mut self, health: Health) -> Before {
        self.ended = true;
        self.lane.end(self.passage, Some(health))
    }
}

/// How a gate was until a request ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    pub was_open: bool,
    /// [`super::gate::Gate::takes_others`].
    pub takes_others: bool,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.ended {
            self.lane.end(self.passage, None);
        }
    }
}

/// No permit within the patience there was. Nothing was spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// When it is worth asking again.
    pub until: Timestamp,
    /// What stands in the way.
    pub why: WaitReason,
}

/// What stands in the way of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReason {
    /// The rate: the next slots are taken.
    Rate,
    /// As many requests as allowed are under way.
    Concurrency,
    /// The gate is closed, or its probe is under way.
    Gate(GateReason),
    /// The rate's durable state cannot be read or written.
    Ledger,
    /// This process is shutting down.
    Closing,
}

/// For a person, behind "waits for" and the dependency's name.
impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate => f.write_str("its rate limit"),
            Self::Concurrency => f.write_str("one of the requests under way to end"),
            Self::Gate(reason) => write!(f, "its gate to open: {reason}"),
            Self::Ledger => f.write_str("the database, which keeps its rate limit"),
            Self::Closing => f.write_str("the next start: this process is shutting down"),
        }
    }
}

/// Who waits for a lane, in order.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<(u64, Thread)>,
    last_ticket: u64,
}

impl Queue {
    fn join(&mut self) -> u64 {
        self.last_ticket += 1;
        self.waiting.push_back((self.last_ticket, thread::current()));
        self.last_ticket
    }

    fn leave(&mut self, ticket: u64) {
        let place = self.place(ticket);
        self.waiting.remove(place);
    }

    fn place(&self, ticket: u64) -> usize {
        self.waiting.partition_point(|(other, _)| *other < ticket)
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whom to wake when the first one may go on.
    pub fn first(&self) -> Vec<Thread> {
        self.waiting.front().map(|(_, thread)| thread.clone()).into_iter().collect()
    }

    /// Whom to wake when everybody has to look again.
    pub fn all(&self) -> Vec<Thread> {
        self.waiting.iter().map(|(_, thread)| thread.clone()).collect()
    }

    /// Wakes them. To be called without the lock.
    pub fn wake(threads: Vec<Thread>) {
        threads.iter().for_each(Thread::unpark);
    }
}

/// What a thread that wants a permit does next.
enum Turn {
    /// It has one.
    Go(Passage),
    /// It looks again when it is woken, or at this steady time.
    Sleep(i64),
    /// It goes home.
    Leave(Wait),
}

impl Lane {
    /// Waits at most `patience` for a permit; not at all where it can be told that this would not be enough.
    /// `is_risky`: the request is never sent twice, so that it is no probe where such have been lost.
    pub fn permit(self: &Arc<Self>, patience: Duration, is_risky: bool) -> Result<Permit, Wait> {
        let patience = i64::try_from(patience.as_nanos()).unwrap_or(i64::MAX);
        let asked_at = self.clock.steady();
        let deadline = asked_at.saturating_add(patience);
        let mut ticket = None;
        let mut state = self.lock();
        loop {
            let now = self.now();
            let place = ticket.map_or(state.queue.len(), |ticket| state.queue.place(ticket));
            let turn = self.turn(&mut state, place, now, deadline, is_risky);
            let needs_slots = !matches!(turn, Turn::Leave(wait) if wait.why != WaitReason::Rate);
            let short = needs_slots && state.demand(now);
            let end = match turn {
                Turn::Go(passage) => {
                    // The instant of release, by which rates are kept: what tests and doubters measure.
                    let dependency = &self.settings.name;
                    tracing::trace!(target: RELEASES, event = "call.released", dependency, steady_ns = now.steady);
                    Ok(Permit { lane: self.clone(), passage, ended: false })
                }
                Turn::Leave(wait) => Err(wait),
                Turn::Sleep(alarm) => {
                    ticket.get_or_insert_with(|| state.queue.join());
                    drop(state);
                    self.get_lease(short);
                    thread::park_timeout(Duration::from_nanos((alarm - now.steady).max(0) as u64));
                    state = self.lock();
                    continue;
                }
            };
            if let Some(ticket) = ticket {
                state.queue.leave(ticket);
            }
            let next = if place == 0 { state.queue.first() } else { Vec::new() };
            drop(state);
            self.get_lease(short);
            Queue::wake(next);
            match &end {
                Ok(_) => self.meter.permitted(Duration::from_nanos(now.steady.saturating_sub(asked_at).max(0) as u64)),
                Err(wait) => self.meter.turned_away(wait.why),
            }
            return end;
        }
    }

    fn get_lease(&self, short: bool) {
        if short {
            self.poke_bookkeeper();
        }
    }

    fn turn(&self, state: &mut State, place: usize, now: Now, deadline: i64, is_risky: bool) -> Turn {
        if let Some(wait) = self.too_risky(state, now, is_risky) {
            return Turn::Leave(wait);
        }
        match self.release(state, place, now, is_risky) {
            Some(passage) => Turn::Go(passage),
            None => self.outlook(state, place, now, deadline).map_or_else(Turn::Leave, Turn::Sleep),
        }
    }

    /// Releases a request whose turn it is, or one that takes a slot from nobody who waits.
    fn release(&self, state: &mut State, place: usize, now: Now, is_risky: bool) -> Option<Passage> {
        let free = state.most_under_way().saturating_sub(state.in_flight) as usize;
        let may = place == 0 || (free > place && state.line.ready(now.steady) > place && state.gate.is_open());
        let passage = if may { state.release(now) } else { None };
        if is_risky && passage.is_some_and(Passage::is_probe) {
            state.gate.risk();
            if !state.gate.may_risk() {
                let dependency = &self.settings.name;
                tracing::warn!(
                    event = "gate.asks_for_a_person",
                    dependency,
                    "no more requests that are never sent twice find out whether the gate may open; a row that is run by hand does"
                );
            }
        }
        passage
    }

    /// Why a request that is never sent twice is not the next probe.
    fn too_risky(&self, state: &State, now: Now, is_risky: bool) -> Option<Wait> {
        let is_probe = state.gate.passage(now).is_ok_and(Passage::is_probe);
        let closed = state.gate.closed(now).filter(|_| is_risky && is_probe && !state.gate.may_risk())?;
        Some(Wait { until: now.wall.after(COME_BACK), why: WaitReason::Gate(closed.reason) })
    }

    /// For somebody who cannot go now: when to look again without being woken, or why that is not worth it.
    fn outlook(&self, state: &mut State, place: usize, now: Now, deadline: i64) -> Result<i64, Wait> {
        let until = |steady: i64| now.wall.after(Duration::from_nanos(steady.saturating_sub(now.steady).max(0) as u64));
        let wait = |until, why| Err(Wait { until, why });
        let come_back = now.wall.after(COME_BACK);
        if state.closing {
            return wait(now.wall, WaitReason::Closing);
        }
        let patient = now.steady < deadline;
        match state.gate.passage(now) {
            Err(Shut::Closed(closed, left)) => {
                let opens = now.steady.saturating_add(left.as_nanos() as i64);
                let in_time = patient && opens <= deadline;
                return if in_time { Ok(opens) } else { wait(now.wall.after(left), WaitReason::Gate(closed.reason)) };
            }
            Err(Shut::Probing(closed)) if !patient => return wait(come_back, WaitReason::Gate(closed.reason)),
            _ => {}
        }
        let slot = state.slot(place, now.steady);
        let full = state.in_flight >= state.most_under_way();
        if !slot.leased && now.steady < state.ledger_rests_until {
            return wait(until(state.ledger_rests_until), WaitReason::Ledger);
        }
        if slot.at > deadline {
            return wait(until(slot.at), WaitReason::Rate);
        }
        if !patient {
            return if full {
                wait(come_back, WaitReason::Concurrency)
            } else {
                wait(until(slot.at), WaitReason::Rate)
            };
        }
        let mine = if slot.leased { slot.at } else { state.line.ask_at() };
        // What is due already is not waited for by the clock: somebody's end, or the ledger's answer, wakes us.
        Ok(if place == 0 && mine > now.steady { mine.min(deadline) } else { deadline })
    }
}
