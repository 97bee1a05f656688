//! The rows that this process has in hand: claimed, and not settled.
//!
//! Their claims are renewed before expired ones are freed, in the same transaction. So a database that was locked for longer
//! than a claim lasts costs no row that somebody works on, and no outcome that waits to be written.
//!
//! Here is known, too, since when nothing has become of those of a batch.
//!
//! They take memory, some of them a megabyte and more: how much is left is asked here, before rows are claimed and when what is
//! saved of an answer makes one wider.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::fitting::{Left, Room, Taken};
use crate::{
    model::{ClaimNumber, RowId, Timestamp},
    store::{StoreError, Tx, claims::ClaimedRow, settle},
};

/// Which rows are in hand. As many as the pool lets be under way.
#[derive(Debug)]
pub struct UnderWay {
    room: Room,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    rows: HashMap<RowId, InHand>,
    /// By batch.
    moves: HashMap<i64, Moves>,
    /// What the wide ones of them take.
    wide: Taken,
    /// Batches whose next row waits until there is room for it.
    without_room: BTreeSet<i64>,
}

#[derive(Debug)]
struct InHand {
    claim: ClaimNumber,
    /// When the claim expires at the earliest: its worker may have renewed it.
    expires_at: Timestamp,
    /// What it takes of the room for wide rows, and of whose, where it is one.
    wide: Option<(usize, Box<str>)>,
}

/// How the rows of a batch that are in hand move.
#[derive(Debug)]
struct Moves {
    rows: usize,
    /// When one of them began, took a step, or ended.
    last: Instant,
}

/// Rows of a batch that are in hand, and that stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Still {
    /// So many.
    pub rows: usize,
    /// For so long.
    pub lasts: Duration,
}

impl Held {
    fn moved(&mut self, row: RowId) -> &mut Moves {
        let moves = self.moves.entry(row.batch()).or_insert_with(|| Moves { rows: 0, last: Instant::now() });
        moves.last = Instant::now();
        moves
    }

    fn put(&mut self, row: RowId, in_hand: InHand) {
        if self.rows.insert(row, in_hand).is_none() {
            self.moved(row).rows += 1;
        }
    }

    fn take(&mut self, row: RowId) -> Option<InHand> {
        let taken = self.rows.remove(&row)?;
        let moves = self.moved(row);
        moves.rows -= 1;
        if moves.rows == 0 {
            self.moves.remove(&row.batch());
        }
        Some(taken)
    }

    fn give_back(&mut self, wide: Option<(usize, Box<str>)>) {
        if let Some((bytes, dependency)) = wide {
            self.wide.give_back(&dependency, bytes);
        }
    }
}

impl UnderWay {
    /// With room for so much.
    pub fn new(room: Room) -> Self {
        Self { room, held: Mutex::default() }
    }

    /// They were claimed, each to call this dependency.
    pub(super) fn begin<'r>(&self, rows: impl Iterator<Item = (&'r ClaimedRow, &'r str)>) {
        let mut held = self.lock();
        for (row, dependency) in rows {
            let wide = self.wide(row.width(), dependency);
            held.wide.add(dependency, wide.as_ref().map_or(0, |(bytes, _)| *bytes));
            held.put(row.row, InHand { claim: row.claim, expires_at: row.claim_expires_at, wide });
        }
    }

    fn wide(&self, width: usize, dependency: &str) -> Option<(usize, Box<str>)> {
        Some((self.room.taken_by(width), dependency.into())).filter(|(bytes, _)| *bytes > 0)
    }

    /// They are settled, or given up.
    pub(super) fn end(&self, rows: &[RowId]) {
        let mut held = self.lock();
        for row in rows {
            let ended = held.take(*row);
            held.give_back(ended.and_then(|row| row.wide));
        }
    }

    /// Since when all rows of the batch that are in hand have stood still; `None` where there are none.
    pub fn still(&self, batch: i64) -> Option<Still> {
        self.lock().moves.get(&batch).map(|moves| Still { rows: moves.rows, lasts: moves.last.elapsed() })
    }

    /// A row took a step. What was saved made it as wide as this, and it calls this dependency next. Whether there is room for that beside the
    /// others.
    pub(super) fn took_step(&self, row: RowId, width: usize, dependency: &str) -> bool {
        let mut held = self.lock();
        let wide = self.wide(width, dependency);
        if !held.rows.contains_key(&row) {
            return true;
        }
        held.moved(row);
        let Some(in_hand) = held.rows.get_mut(&row) else { return true };
        if in_hand.wide == wide {
            return true;
        }
        let before = std::mem::replace(&mut in_hand.wide, wide);
        held.give_back(before);
        let bytes = self.room.taken_by(width);
        let fits = bytes == 0 || self.room.beside(held.wide.clone()).fits(dependency, bytes);
        held.wide.add(dependency, bytes);
        fits
    }

    /// What there is room for.
    pub fn room(&self) -> Room {
        self.room
    }

    /// What is left of it.
    pub fn left(&self) -> Left {
        self.room.beside(self.lock().wide.clone())
    }

    /// Says which batches wait for room.
    pub fn set_without_room(&self, batches: BTreeSet<i64>) {
        self.lock().without_room = batches;
    }

    /// Whether a batch's next row waits for room, and how many bytes the others have that are under way.
    pub fn without_room(&self, batch: i64) -> Option<usize> {
        let held = self.lock();
        held.without_room.contains(&batch).then_some(held.wide.bytes())
    }

    /// Renews the claims that could expire before this is asked the next time. Asked within the transaction, as that may
    /// have waited for longer than a claim lasts.
    pub fn renew(self: &Arc<Self>, tx: &Tx<'_>, ttl: Duration) -> Result<(), StoreError> {
        let (expiring, expires_at) = (self.expiring(tx.now.after(ttl / 2)), tx.now.after(ttl));
        settle::renew_all(tx, &expiring, expires_at)?;
        let ours = self.clone();
        tx.after_commit(move || ours.renewed(&expiring, expires_at));
        Ok(())
    }

    /// Whether [`UnderWay::renew`] would renew any.
    pub fn has_expiring(&self, now: Timestamp, ttl: Duration) -> bool {
        let by = now.after(ttl / 2);
        self.lock().rows.values().any(|in_hand| in_hand.expires_at <= by)
    }

    /// Whether nothing is in hand.
    pub fn is_empty(&self) -> bool {
        self.lock().rows.is_empty()
    }

    /// Whether this process has the row in hand, by this claim.
    pub fn holds(&self, row: RowId, claim: ClaimNumber) -> bool {
        self.lock().rows.get(&row).is_some_and(|in_hand| in_hand.claim == claim)
    }

    /// When claims expire is not known any more: a clock was set. They are renewed the next time.
    pub fn forget_expiries(&self) {
        self.lock().rows.values_mut().for_each(|in_hand| in_hand.expires_at = Timestamp(0));
    }

    fn expiring(&self, by: Timestamp) -> Vec<(RowId, ClaimNumber)> {
        let held = self.lock();
        held.rows.iter().filter(|(_, it)| it.expires_at <= by).map(|(row, it)| (*row, it.claim)).collect()
    }

    fn renewed(&self, claims: &[(RowId, ClaimNumber)], expires_at: Timestamp) {
        let mut held = self.lock();
        for (row, claim) in claims {
            if let Some(in_hand) = held.rows.get_mut(row).filter(|in_hand| in_hand.claim == *claim) {
                in_hand.expires_at = expires_at;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
