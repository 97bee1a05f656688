//! The ready index: which rows could start now, in memory, so that a claim touches only those.
//!
//! ```text
//!   dependency -> route (a version's step) -> clients in turn -> piles: new rows, rows that wait, rows that are prepaid
//!   and for each pile that waits: when its first row is due
//! ```
//!
//! A batch that stands still is not in it, a client that is paused, has no grant or is full has no turn, and a dependency without room is
//! asked once: none of that costs a claim anything. It only knows where to look; the database is the truth, and a claim
//! asks that once more ([`crate::store::claims`]). It may think that rows are there, or due, that are not: the next claim finds
//! out. It must never miss any: that is what `hearing` is for, which keeps it up to date.
//!
//! Knows no clock, no database and no dependency: it is told.

mod turns;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub use turns::Openings;
use turns::{Turn, Turns};

use crate::{
    model::Timestamp,
    store::{
        claims::{Kind, Left, Wanted},
        ready::{ReadyBatch, ReadyClient, Waiting},
    },
};

/// All rows that could be claimed sooner or later.
#[derive(Debug, Default)]
pub struct Index {
    is_paused: bool,
    turns: Turns,
    batches: BTreeMap<i64, Batch>,
    /// The piles that wait for a time: until when, and which.
    due: BTreeSet<(Timestamp, i64, u32, bool)>,
    /// Whose turn is first where there is room for few rows.
    first_lane: usize,
    /// Piles that have no turn although rows of theirs are due, as there is no memory for the next one: whom it calls, and how
    /// wide it is.
    held: BTreeMap<(i64, u32, Kind), (String, usize)>,
}

#[derive(Debug)]
struct Batch {
    client: i64,
    version: i64,
    next_row: u32,
    total: u32,
    /// New rows that the plan has not taken.
    new: u32,
    waiting: Vec<Pile>,
    /// How many rows wait at which step, due or not, as far as is known.
    lying: Vec<(u32, u32)>,
}

#[derive(Debug)]
struct Pile {
    waiting: Waiting,
    /// Rows that the plan may still take; none where they are not due.
    left: u32,
}

impl Batch {
    fn turn(&self, batch: i64, step: u32, kind: Kind) -> Turn {
        Turn { client: self.client, batch, version: self.version, step, kind }
    }
}

fn kind(prepaid: bool) -> Kind {
    if prepaid { Kind::Prepaid } else { Kind::Waiting }
}

impl Index {
    /// Whether the steps of this version are known. They have to be before a batch of it is put in.
    pub fn knows_version(&self, version: i64) -> bool {
        self.turns.knows_version(version)
    }

    /// A version's steps call these dependencies, in this order.
    pub fn learn(&mut self, version: i64, dependencies: &[String]) {
        self.turns.learn(version, dependencies);
    }

    /// All dispatch is paused, or not.
    pub fn set_paused(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// Whether all dispatch is paused.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Whether something of the client is known.
    pub fn knows_client(&self, client: i64) -> bool {
        self.turns.knows_client(client)
    }

    /// How a client stands.
    pub fn set_client(&mut self, client: i64, stands: ReadyClient) {
        self.turns.set_client(client, stands);
    }

    /// How a client stands, as far as is known.
    pub fn client(&self, client: i64) -> ReadyClient {
        self.turns.stands(client)
    }

    /// Those who have no turn, whatever of theirs could start: no row of theirs is to save anything more.
    pub fn set_full(&mut self, clients: &BTreeSet<i64>) {
        self.turns.set_full(clients);
    }

    /// Whose a batch is, where it is known.
    pub fn client_of(&self, batch: i64) -> Option<i64> {
        self.batches.get(&batch).map(|known| known.client)
    }

    /// How many batches are known.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// A batch as it is, whatever was known of it.
    pub fn put(&mut self, batch: &ReadyBatch) {
        self.remove(batch.batch);
        let ReadyBatch { batch: key, client, version, next_row, total, ref waiting } = *batch;
        self.turns.count_batch(client, true);
        self.batches
            .insert(key, Batch { client, version, next_row, total, new: 0, waiting: Vec::new(), lying: Vec::new() });
        self.set_next_row(key, next_row);
        for waiting in waiting {
            self.lie(key, waiting.step, waiting.rows);
            self.set_waiting(key, *waiting);
        }
    }

    /// Nothing of a batch may be claimed.
    pub fn remove(&mut self, batch: i64) {
        let Some(known) = self.batches.get(&batch) else { return };
        let client = known.client;
        known.lying.iter().for_each(|(step, rows)| self.turns.lie(known.version, *step, *rows, false));
        let piles: Vec<_> = known.waiting.iter().map(|pile| (pile.waiting.step, pile.waiting.prepaid)).collect();
        self.set_next_row(batch, u32::MAX);
        piles.into_iter().for_each(|(step, prepaid)| self.take_out(batch, step, prepaid));
        self.turns.count_batch(client, false);
        self.batches.remove(&batch);
        self.held.retain(|(of, ..), _| *of != batch);
    }

    /// Rows of a batch came to wait. `false` where nothing is known of the batch: it has to be looked at.
    pub fn note(&mut self, batch: i64, noted: Waiting) -> bool {
        let Some(known) = self.batches.get(&batch) else { return false };
        let is_it = |pile: &&Pile| (pile.waiting.step, pile.waiting.prepaid) == (noted.step, noted.prepaid);
        let merged = known.waiting.iter().find(is_it).map_or(noted, |Pile { waiting, .. }| Waiting {
            due_at: waiting.due_at.min(noted.due_at),
            rows: waiting.rows.saturating_add(noted.rows),
            ..noted
        });
        self.lie(batch, noted.step, noted.rows);
        self.set_waiting(batch, merged);
        true
    }

    /// Rows came to wait at a step.
    fn lie(&mut self, batch: i64, step: u32, rows: u32) {
        let Some(known) = self.batches.get_mut(&batch) else { return };
        self.turns.lie(known.version, step, rows, true);
        match known.lying.iter_mut().find(|(at, _)| *at == step) {
            Some((_, lying)) => *lying = lying.saturating_add(rows),
            None => known.lying.push((step, rows)),
        }
    }

    /// So many of them were claimed; where no pile is left, there were no others.
    fn rise(&mut self, batch: i64, step: u32, rows: u32) {
        let Some(known) = self.batches.get_mut(&batch) else { return };
        let is_over = known.waiting.iter().all(|pile| pile.waiting.step != step);
        let Some((_, lying)) = known.lying.iter_mut().find(|(at, _)| *at == step) else { return };
        let rose = if is_over { *lying } else { rows.min(*lying) };
        *lying -= rose;
        self.turns.lie(known.version, step, rose, false);
    }

    fn set_next_row(&mut self, batch: i64, next_row: u32) {
        let Some(known) = self.batches.get_mut(&batch) else { return };
        known.next_row = next_row;
        known.new = known.total.saturating_add(1).saturating_sub(next_row);
        let turn = known.turn(batch, 0, Kind::New);
        match known.new {
            0 => self.turns.remove(turn),
            _ => self.turns.add(turn),
        }
    }

    /// What waits there is this, and until then. [`Index::plan`] finds out whether that is over.
    fn set_waiting(&mut self, batch: i64, waiting: Waiting) {
        self.take_out(batch, waiting.step, waiting.prepaid);
        let Some(known) = self.batches.get_mut(&batch) else { return };
        known.waiting.push(Pile { waiting, left: 0 });
        self.due.insert((waiting.due_at, batch, waiting.step, waiting.prepaid));
    }

    fn take_out(&mut self, batch: i64, step: u32, prepaid: bool) {
        let Some(known) = self.batches.get_mut(&batch) else { return };
        let place = known.waiting.iter().position(|pile| (pile.waiting.step, pile.waiting.prepaid) == (step, prepaid));
        let Some(Pile { waiting, .. }) = place.map(|place| known.waiting.swap_remove(place)) else { return };
        self.due.remove(&(waiting.due_at, batch, step, prepaid));
        self.turns.remove(known.turn(batch, step, kind(prepaid)));
    }

    /// When the next of the piles is due that wait for a time.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// Those whose time has come have a turn from now on.
    fn wake(&mut self, now: Timestamp) {
        while let Some(&(at, batch, step, prepaid)) = self.due.first().filter(|(at, ..)| *at <= now) {
            self.due.remove(&(at, batch, step, prepaid));
            let Some(known) = self.batches.get_mut(&batch) else { continue };
            self.turns.add(known.turn(batch, step, kind(prepaid)));
            let mut piles = known.waiting.iter_mut().map(|pile| (pile.waiting, &mut pile.left));
            if let Some((waiting, left)) = piles.find(|(pile, _)| (pile.step, pile.prepaid) == (step, prepaid)) {
                *left = waiting.rows.max(1);
            }
        }
    }

    /// What to claim: up to so many rows, for which `openings` had room. What is planned counts as taken until it is told by
    /// [`Index::taken`] what came of it.
    pub fn plan(&mut self, limit: usize, now: Timestamp, openings: &mut impl Openings) -> Vec<Wanted> {
        self.wake(now);
        let mut lanes = if self.is_paused { Vec::new() } else { self.turns.lanes() };
        if !lanes.is_empty() {
            let first = self.first_lane % lanes.len();
            lanes.rotate_left(first);
            self.first_lane = self.first_lane.wrapping_add(1);
        }
        let (mut wanted, mut places, mut closed) = (Vec::new(), HashMap::new(), BTreeSet::new());
        let mut left = limit;
        while left > 0 && !lanes.is_empty() {
            lanes.retain(|lane| {
                let turn = if left > 0 { self.turns.next(*lane, &mut closed, openings) } else { None };
                let Some(turn) = turn else { return false };
                left -= 1;
                self.take(turn);
                let Turn { batch, version, step, kind, .. } = turn;
                let place = *places.entry((batch, step, kind)).or_insert(wanted.len());
                if place == wanted.len() {
                    wanted.push(Wanted { batch, version, step, kind, rows: 0, has_key: false });
                }
                wanted[place].rows += 1;
                true
            });
        }
        wanted
    }

    /// One row is planned. A pile of which all are has no turn until it is known what is left.
    fn take(&mut self, turn: Turn) {
        let Some(known) = self.batches.get_mut(&turn.batch) else { return };
        let is_it = |pile: &&mut Pile| (pile.waiting.step, kind(pile.waiting.prepaid)) == (turn.step, turn.kind);
        let left = match turn.kind {
            Kind::New => Some(&mut known.new),
            Kind::Prepaid | Kind::Waiting => known.waiting.iter_mut().find(is_it).map(|pile| &mut pile.left),
        };
        let Some(left) = left else { return };
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.turns.remove(turn);
        }
    }

    /// What came of something that was planned.
    pub fn taken(&mut self, wanted: &Wanted, left: Left) {
        let &Wanted { batch, step, kind, .. } = wanted;
        let Some(known) = self.batches.get(&batch) else { return };
        let client = known.client;
        let stands = ReadyClient { granted: left.granted, is_paused: false };
        self.turns.set_client(client, stands);
        match (kind, left.waiting) {
            (Kind::New, _) => self.set_next_row(batch, left.next_row),
            (_, Some((due_at, rows))) => {
                self.set_waiting(batch, Waiting { step, prepaid: kind == Kind::Prepaid, due_at, rows });
            }
            (_, None) => self.take_out(batch, step, kind == Kind::Prepaid),
        }
        if kind != Kind::New {
            self.rise(batch, step, wanted.rows);
        }
    }

    /// What was planned, and told by [`Index::taken`], has no other turn until [`Index::let_go`]: there is no memory for its next
    /// row, which is so wide.
    pub fn hold(&mut self, planned: &Wanted, dependency: &str, width: usize) {
        let &Wanted { batch, step, kind, .. } = planned;
        let Some(known) = self.batches.get(&batch) else { return };
        let waits =
            |pile: &&Pile| kind != Kind::New && (pile.waiting.step, self::kind(pile.waiting.prepaid)) == (step, kind);
        if let Some(Pile { waiting, .. }) = known.waiting.iter().find(waits) {
            self.due.remove(&(waiting.due_at, batch, step, waiting.prepaid));
        }
        self.turns.remove(known.turn(batch, step, kind));
        self.held.insert((batch, step, kind), (dependency.to_owned(), width));
    }

    /// How wide the widest row is that a turn is held for, by whom it calls.
    pub fn widest_held(&self) -> BTreeMap<String, usize> {
        let mut widest: BTreeMap<String, usize> = BTreeMap::new();
        for (dependency, width) in self.held.values() {
            let known = widest.entry(dependency.clone()).or_default();
            *known = (*known).max(*width);
        }
        widest
    }

    /// The batches of which a pile is held.
    pub fn held(&self) -> BTreeSet<i64> {
        self.held.keys().map(|(batch, ..)| *batch).collect()
    }

    /// Those that call this dependency have their turns again.
    pub fn let_go(&mut self, dependency: &str) {
        let let_go = self.held.extract_if(.., |_, (calls, _)| calls == dependency).map(|(pile, _)| pile);
        for (batch, step, kind) in let_go.collect::<Vec<_>>() {
            let Some(known) = self.batches.get(&batch) else { continue };
            let is_it = |pile: &&Pile| (pile.waiting.step, self::kind(pile.waiting.prepaid)) == (step, kind);
            match kind {
                Kind::New => self.set_next_row(batch, known.next_row),
                Kind::Prepaid | Kind::Waiting => {
                    if let Some(waiting) = known.waiting.iter().find(is_it).map(|pile| pile.waiting) {
                        self.set_waiting(batch, waiting);
                    }
                }
            }
        }
    }

    /// So many rows of a client made no call from this step on, for which they were planned.
    pub fn refund(&mut self, client: i64, version: i64, step: u32, rows: u32) {
        self.turns.refund(client, version, step, rows);
    }

    /// What is known of a batch.
    pub fn batch(&self, batch: i64) -> Option<ReadyBatch> {
        let known = self.batches.get(&batch)?;
        let &Batch { client, version, next_row, total, ref waiting, .. } = known;
        let mut waiting: Vec<_> = waiting.iter().map(|pile| pile.waiting).collect();
        waiting.sort_by_key(|waiting| (waiting.step, waiting.prepaid));
        Some(ReadyBatch { batch, client, version, next_row, total, waiting })
    }

    /// Whether rows of a batch that stands so could be missed.
    pub fn misses(&self, stands: &ReadyBatch) -> bool {
        let Some(known) = self.batches.get(&stands.batch) else { return true };
        let has = |waiting: &Waiting| {
            let same = |pile: &&Pile| (pile.waiting.step, pile.waiting.prepaid) == (waiting.step, waiting.prepaid);
            known.waiting.iter().find(same).is_some_and(|pile| pile.waiting.due_at <= waiting.due_at)
        };
        let new = stands.next_row <= stands.total && known.next_row > stands.next_row;
        known.version != stands.version || new || !stands.waiting.iter().all(has)
    }

    /// Forgets clients of which nothing is there any more.
    pub fn forget_idle(&mut self) {
        self.turns.forget_idle();
    }
}
