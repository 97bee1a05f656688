//! Permits: the right to send one request, now. A permit is slot, concurrency and gate in one: all of them are taken
//! at the instant of release, by whoever is going to send, or none is. Nothing burns while another refuses.
//!
//! Who has to wait stands in a queue. Only the first one has an alarm set for its slot; the others are woken when they are
//! first, so that no slot wakes a crowd. Who finds more slots ready than others are waiting for does not queue at all: at
//! high rates that is everybody, and a permit costs one uncontended lock.
//!
//! What is never sent twice is written down with its permit in hand, so that a death leaves no doubt about requests that
//! were only waiting. Writing takes time, and a request that leaves later than its slot is one too many in some second. Its
//! permit is therefore given [`Ask::ahead`] of its slot, which it then waits for; one whose slot has passed is worth nothing.

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{
    advice::Advice,
    gate::{GateReason, Health, Now, Passage, Shut},
    lack::Lack,
    lane::{Lane, State},
};
use crate::model::Timestamp;

/// The log target under which each release is told, at the level `trace`.
pub const RELEASES: &str = "dripfeed::releases";
/// When to come back where nobody can say when there will be room: a call must end first.
const COME_BACK: Duration = Duration::from_secs(1);

/// How a permit is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// How long it is waited for at most; not at all where it can be told that this would not be enough.
    pub patience: Duration,
    /// Whether the request may find out if a closed gate opens, also where it is never sent twice and such have been lost.
    pub may_be_lost: bool,
    /// About how long it takes from the permit until the request can leave.
    pub ahead: Duration,
}

/// The right to send one request. Dropped without a report, it counts as never sent.
#[must_use]
pub struct Permit {
    lane: Arc<Lane>,
    passage: Passage,
    /// The time of its slot, where it was given ahead of that.
    leaves_at: Option<i64>,
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

    /// Waits for the time of a slot that lies ahead. Whether the request may leave, now: its slot may have passed meanwhile,
    /// or the gate be closed.
    pub async fn its_time(&mut self) -> bool {
        let Some(leaves_at) = self.leaves_at.take() else { return true };
        let woken = Arc::new(Notify::new());
        loop {
            let now = self.lane.now();
            if now.steady >= leaves_at {
                return self.lane.may_leave(self.passage, leaves_at, now);
            }
            self.lane.alarms.set(Instant::now() + nanos(leaves_at - now.steady), &woken);
            woken.notified().await;
        }
    }

    /// The request could not leave, because this machine lacks something: it counts as never sent. When to come back.
    pub(super) fn lacks(self, lack: Lack) -> Wait {
        self.lane.lacks(lack)
    }

    /// The request has ended; `once_more`: its row was turned away before. Says how the gate was until then.
    pub(super) fn report(mut self, health: Health, once_more: bool) -> Before {
        self.ended = true;
        self.lane.end(self.passage, Some(health), once_more)
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
            self.lane.end(self.passage, None, false);
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
    /// This machine lacks something for another connection.
    Lack(Lack),
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
            Self::Lack(lack) => lack.fmt(f),
            Self::Closing => f.write_str("the next start: this process is shutting down"),
        }
    }
}

/// Who waits for a lane, in order.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<(u64, Arc<Notify>)>,
    last_ticket: u64,
}

impl Queue {
    fn join(&mut self, woken: &Arc<Notify>) -> u64 {
        self.last_ticket += 1;
        self.waiting.push_back((self.last_ticket, woken.clone()));
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
    pub fn first(&self) -> Vec<Arc<Notify>> {
        self.waiting.front().map(|(_, woken)| woken.clone()).into_iter().collect()
    }

    /// Whom to wake when everybody has to look again.
    pub fn all(&self) -> Vec<Arc<Notify>> {
        self.waiting.iter().map(|(_, woken)| woken.clone()).collect()
    }

    /// Wakes them. To be called without the lock.
    pub fn wake(waiting: Vec<Arc<Notify>>) {
        waiting.iter().for_each(|woken| woken.notify_one());
    }
}

/// A place in the queue. Dropped, it is given up, and the next one looks.
struct Place<'l> {
    lane: &'l Lane,
    ticket: u64,
    woken: Arc<Notify>,
}

impl<'l> Place<'l> {
    fn join(lane: &'l Lane, queue: &mut Queue) -> Self {
        let woken = Arc::new(Notify::new());
        Self { lane, ticket: queue.join(&woken), woken }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.lane.lock();
        let was_first = state.queue.place(self.ticket) == 0;
        state.queue.leave(self.ticket);
        let next = if was_first { state.queue.first() } else { Vec::new() };
        drop(state);
        Queue::wake(next);
    }
}

/// What somebody who wants a permit does next.
enum Turn {
    /// It has one, for the slot of this time.
    Go(Passage, i64),
    /// It looks again when it is woken, or at this steady time.
    Sleep(i64),
    /// It goes home.
    Leave(Wait),
}

impl Lane {
    /// Waits for a permit. `once_only`: the request is never sent twice, so that it is no probe where such have been lost.
    pub async fn permit(self: &Arc<Self>, ask: Ask, once_only: bool) -> Result<Permit, Wait> {
        let is_risky = once_only && !ask.may_be_lost;
        let asked_at = self.clock.steady();
        let deadline = asked_at.saturating_add(i64::try_from(ask.patience.as_nanos()).unwrap_or(i64::MAX));
        let mut place = None;
        loop {
            let (turn, now) = self.look(&mut place, ask, deadline, is_risky);
            match (turn, &place) {
                (Turn::Go(passage, slot), _) => {
                    self.meter.permitted(nanos(now.steady.saturating_sub(asked_at)));
                    let leaves_at = (ask.ahead > Duration::ZERO).then_some(slot);
                    if leaves_at.is_none() {
                        self.tell_release(now);
                    }
                    return Ok(Permit { lane: self.clone(), passage, leaves_at, ended: false });
                }
                (Turn::Leave(wait), _) => {
                    self.meter.turned_away(wait.why);
                    return Err(wait);
                }
                (Turn::Sleep(alarm), Some(Place { woken, .. })) => {
                    let sleep = nanos(alarm.saturating_sub(now.steady));
                    if alarm < deadline {
                        self.alarms.set(Instant::now() + sleep, woken);
                        woken.notified().await;
                    } else {
                        // The end of one's patience is no slot: it may be noticed a millisecond late, and most never see it.
                        let _ = tokio::time::timeout(sleep, woken.notified()).await;
                    }
                }
                // It joined the queue when it was told to sleep.
                (Turn::Sleep(_), None) => {}
            }
        }
    }

    /// One look, under the lock. Who has to wait has a place in the queue then.
    fn look<'l>(&'l self, place: &mut Option<Place<'l>>, ask: Ask, deadline: i64, is_risky: bool) -> (Turn, Now) {
        let now = self.now();
        let mut state = self.lock();
        let position = place.as_ref().map_or(state.queue.len(), |place| state.queue.place(place.ticket));
        let turn = self.turn(&mut state, position, now, ask, deadline, is_risky);
        if matches!(turn, Turn::Sleep(_)) && place.is_none() {
            *place = Some(Place::join(self, &mut state.queue));
        }
        let needs_slots = !matches!(turn, Turn::Leave(wait) if wait.why != WaitReason::Rate);
        let short = needs_slots && state.demand(now);
        let has_news = short || matches!(turn, Turn::Go(passage, _) if passage.is_probe());
        drop(state);
        if has_news {
            self.poke_bookkeeper();
        }
        (turn, now)
    }

    /// The instant of release, by which rates are kept: what tests and doubters measure.
    fn tell_release(&self, now: Now) {
        let dependency = &self.settings.name;
        tracing::trace!(target: RELEASES, event = "call.released", dependency, steady_ns = now.steady);
    }

    /// Whether a request may leave whose permit was given ahead of its slot.
    fn may_leave(&self, passage: Passage, slot: i64, now: Now) -> bool {
        let state = self.lock();
        let is_open = passage.is_probe() || state.gate.passage(now).is_ok();
        let may = is_open && !state.closing && state.line.pace().is_usable(slot, now.steady);
        drop(state);
        if may {
            self.tell_release(now);
        }
        may
    }

    fn turn(&self, state: &mut State, place: usize, now: Now, ask: Ask, deadline: i64, is_risky: bool) -> Turn {
        if let Some(wait) = self.too_risky(state, now, is_risky) {
            return Turn::Leave(wait);
        }
        let ahead = i64::try_from(ask.ahead.as_nanos()).unwrap_or_default();
        match self.release(state, place, now, ahead, is_risky) {
            Some((passage, slot)) => Turn::Go(passage, slot),
            None => self.outlook(state, place, now, ahead, deadline).map_or_else(Turn::Leave, Turn::Sleep),
        }
    }

    /// Releases a request whose turn it is, or one that takes a slot from nobody who waits.
    fn release(&self, state: &mut State, place: usize, now: Now, ahead: i64, is_risky: bool) -> Option<(Passage, i64)> {
        let free = state.most_under_way(now.steady).saturating_sub(state.in_flight) as usize;
        let may = place == 0 || (free > place && state.line.ready(now.steady + ahead) > place && state.gate.is_open());
        let mut released = if may { state.release(now, ahead) } else { None };
        if let Some((passage, _)) = released.as_mut().filter(|(passage, _)| is_risky && passage.is_probe()) {
            state.gate.risk(passage);
            // So many may be lost in all, and not with each start.
            state.gate_changed();
        }
        released
    }

    /// Why a request that is never sent twice is not the next probe.
    fn too_risky(&self, state: &State, now: Now, is_risky: bool) -> Option<Wait> {
        let is_probe = state.gate.passage(now).is_ok_and(Passage::is_probe);
        let closed = state.gate.closed(now).filter(|_| is_risky && is_probe && !state.gate.may_risk())?;
        Some(Wait { until: now.wall.after(COME_BACK), why: WaitReason::Gate(closed.reason) })
    }

    /// For somebody who cannot go now: when to look again without being woken, or why that is not worth it.
    fn outlook(&self, state: &mut State, place: usize, now: Now, ahead: i64, deadline: i64) -> Result<i64, Wait> {
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
        if let Some((lack, held_until)) = state.lacking.held(now.steady) {
            return wait(until(held_until), WaitReason::Lack(lack));
        }
        let slot = state.slot(place, now.steady, ahead);
        let full = state.in_flight >= state.most_under_way(now.steady);
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

fn nanos(steady: i64) -> Duration {
    Duration::from_nanos(u64::try_from(steady).unwrap_or_default())
}
