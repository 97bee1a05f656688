//! Admission: a row is claimed only when its calls can be made soon, so that waiting rows hold no thread and no claim.
//!
//! A claimed row reserves one call of each step that it still has to go through. What is reserved of a dependency
//! never exceeds what can leave to it within [`CLAIM_AHEAD`], so a row that is let in at its first step will not stand
//! in a crowd at its third.

use std::{sync::Arc, time::Duration};

use super::{
    gate::{Passage, Shut},
    lane::Lane,
    permit::{Wait, WaitReason},
    places::Place,
};

/// How far ahead of their first call rows are claimed.
pub const CLAIM_AHEAD: Duration = Duration::from_secs(1);

/// So many rows may go ahead of a dependency that is away, as far as its step: an outage of a later step is no reason for the
/// first one to stand idle, and what is saved up for its end must not be a flood, nor grow old by the hundred thousand. They
/// lie on disk, without a claim.
pub const LEAD: usize = 10_000;

/// How many rows could be started now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// So many rows.
    pub rows: usize,
    /// Where there is no room: when it is worth asking again. The [`super::Wake`] may come earlier.
    pub again_after: Duration,
}

/// What one claimed row still has to call, and its place among the rows under way. Dropped, it gives back what was not called.
pub struct Reservation {
    steps: Arc<[Arc<Lane>]>,
    next: usize,
    /// At the dependency of the step that it is at.
    place: Option<Place>,
}

impl Reservation {
    /// For the steps of a row from `next` on, each by the lane of its dependency.
    pub(super) fn new(steps: Arc<[Arc<Lane>]>, next: usize) -> Self {
        steps.iter().skip(next).for_each(|lane| lane.lock().reserved += 1);
        let place = steps.get(next).map(Place::at);
        Self { steps, next, place }
    }

    /// The dependency of the first step that was not called.
    pub fn dependency(&self) -> &str {
        self.steps.get(self.next).map_or("", |lane| lane.settings.name.as_str())
    }

    /// The first step, counted from 0, that was not called.
    pub fn unspent_from(&self) -> usize {
        self.next
    }

    /// The next step is begun. Whether there is a place for its row at that step's dependency.
    pub fn arrive(&mut self) -> bool {
        let Some((lane, place)) = self.steps.get(self.next).zip(self.place.as_mut()) else { return true };
        place.move_to(lane)
    }

    /// The next step's permit was given: that call is reserved no more.
    pub fn spend(&mut self) {
        if let Some(lane) = self.steps.get(self.next) {
            lane.give_back();
            self.next += 1;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.steps.iter().skip(self.next).for_each(|lane| lane.give_back());
    }
}

/// How many rows could start at `steps[0]` and soon go through all of `steps`; where a later one's dependency is away, how many
/// may go ahead of it. `lying` says how many rows lie already before a step of them, counted from 0.
pub(super) fn room(steps: &[Arc<Lane>], lying: impl Fn(usize) -> usize) -> Room {
    let mut room = Room { rows: usize::MAX, again_after: Duration::ZERO };
    for (place, lane) in steps.iter().enumerate() {
        let same = |other: &&Arc<Lane>| Arc::ptr_eq(other, lane);
        if steps[..place].iter().any(|other| same(&other)) {
            continue;
        }
        let calls = steps.iter().filter(same).count();
        let here = match (place, lane.is_away()) {
            (0, _) => lane.room(calls, true),
            (_, false) => lane.room(calls, false),
            (_, true) => lane.lead(lying(place)),
        };
        room.rows = room.rows.min(here.rows);
        if here.rows == 0 {
            room.again_after = room.again_after.max(here.again_after);
        }
    }
    if steps.is_empty() { Room { rows: 0, again_after: CLAIM_AHEAD } } else { room }
}

/// Why no row can start at `steps[0]`, where the clock will change that: a gate on its way, a connection that cannot be made
/// here, or a rate so low that the next call is not near.
pub(super) fn obstacle(steps: &[Arc<Lane>]) -> Option<(&Lane, Wait)> {
    let gates = steps.iter().find_map(|lane| Some((&**lane, lane.gate_wait()?)));
    let lacks = || steps.iter().find_map(|lane| Some((&**lane, lane.lack_wait()?)));
    gates.or_else(lacks).or_else(|| steps.first().and_then(|lane| Some((&**lane, lane.rate_wait()?))))
}

impl Lane {
    fn gate_wait(&self) -> Option<Wait> {
        let closed = self.lock().gate.closed(self.now())?;
        Some(Wait { until: closed.until, why: WaitReason::Gate(closed.reason) })
    }

    fn lack_wait(&self) -> Option<Wait> {
        let now = self.now();
        let (lack, until) = self.lock().lacking.held(now.steady)?;
        let left = Duration::from_nanos(u64::try_from(until - now.steady).ok()?);
        Some(Wait { until: now.wall.after(left), why: WaitReason::Lack(lack) })
    }

    fn rate_wait(&self) -> Option<Wait> {
        let now = self.now();
        let mut state = self.lock();
        let reserved = state.reserved;
        let ahead = Duration::from_nanos(u64::try_from(state.slot(reserved, now.steady, 0).at - now.steady).ok()?);
        (ahead > CLAIM_AHEAD).then(|| Wait { until: now.wall.after(ahead), why: WaitReason::Rate })
    }

    /// Whether nothing leaves there now but what finds out if its gate may open.
    fn is_away(&self) -> bool {
        self.lock().gate.passage(self.now()).map_or(true, Passage::is_probe)
    }

    /// Room for rows that go through the steps before, and are put down here.
    fn lead(&self, lying: usize) -> Room {
        let ahead = lying.saturating_add(self.lock().reserved);
        Room { rows: LEAD.saturating_sub(ahead), again_after: CLAIM_AHEAD }
    }

    fn give_back(&self) {
        let mut state = self.lock();
        state.reserved = state.reserved.saturating_sub(1);
        drop(state);
        (self.wake)();
    }

    /// Room for rows that will make `calls` calls each, the first of them at once where they start here.
    fn room(&self, calls: usize, starts_here: bool) -> Room {
        let now = self.now();
        let mut state = self.lock();
        let state = &mut *state;
        let none = |again_after| Room { rows: 0, again_after };
        let most = match state.gate.passage(now) {
            Err(Shut::Closed(_, left)) => return none(left),
            Err(Shut::Probing(_)) => return none(CLAIM_AHEAD),
            Ok(passage) if passage.is_probe() => 1,
            Ok(_) => usize::MAX,
        };
        if let Some((_, until)) = state.lacking.held(now.steady) {
            return none(Duration::from_nanos(u64::try_from(until - now.steady).unwrap_or_default()));
        }
        // What can leave within the time ahead: no more than the rate allows, and no more than went through lately
        // where answers are slow and the concurrency is what holds requests up.
        let limit = state.concurrency.limit();
        let limit = state.lacking.most_under_way(now.steady).map_or(limit, |most| most.min(limit));
        let idle = limit.saturating_sub(state.in_flight);
        let flow = (idle + state.calls.last_second(now.steady)) as usize;
        let horizon = now.steady.saturating_add(CLAIM_AHEAD.as_nanos() as i64);
        let soon = flow.min(state.line.pace().most_in_a_second()).min(state.quota.left(now.steady, horizon));
        // Where one call is free a row gets in, however many it will make: else those of a long way would never find as
        // many free at once, beside others of a short one who take each as it comes.
        let free = soon.saturating_sub(state.reserved).div_ceil(calls);
        // A row that needs more than there ever is must still get in, alone.
        let alone = usize::from(state.reserved == 0 && idle > 0);
        let rows = free.max(alone).min(most.saturating_sub(state.reserved));
        let mut rows = rows.min(self.places.left(state.held));
        if starts_here {
            let slot = state.slot(state.reserved, now.steady, 0).at;
            if slot > horizon {
                return none(Duration::from_nanos((slot - horizon) as u64));
            }
            let slots = (horizon - slot) / state.line.pace().spacing_ns() + 1;
            rows = rows.min(usize::try_from(slots).unwrap_or(usize::MAX));
        }
        Room { rows, again_after: CLAIM_AHEAD }
    }
}
