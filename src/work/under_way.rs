//! The rows that this process has in hand: claimed, and not settled.
//!
//! Their claims are renewed before expired ones are freed, in the same transaction. So a database that was locked for longer
//! than a claim lasts costs no row that somebody works on, and no outcome that waits to be written.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    model::{ClaimNumber, RowId, Timestamp},
    store::{StoreError, Tx, claims::ClaimedRow, settle},
};

/// Which rows are in hand. As many as the pool lets be under way.
#[derive(Debug, Default)]
pub struct UnderWay(Mutex<HashMap<RowId, InHand>>);

#[derive(Debug, Clone, Copy)]
struct InHand {
    claim: ClaimNumber,
    /// When the claim expires at the earliest: its worker may have renewed it.
    expires_at: Timestamp,
}

impl UnderWay {
    /// They were claimed.
    pub(super) fn begin<'r>(&self, rows: impl Iterator<Item = &'r ClaimedRow>) {
        let in_hand = |row: &ClaimedRow| InHand { claim: row.claim, expires_at: row.claim_expires_at };
        self.lock().extend(rows.map(|row| (row.row, in_hand(row))));
    }

    /// They are settled, or given up.
    pub(super) fn end(&self, rows: &[RowId]) {
        let mut held = self.lock();
        for row in rows {
            held.remove(row);
        }
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

    /// When claims expire is not known any more: a clock was set. They are renewed the next time.
    pub fn forget_expiries(&self) {
        self.lock().values_mut().for_each(|in_hand| in_hand.expires_at = Timestamp(0));
    }

    fn expiring(&self, by: Timestamp) -> Vec<(RowId, ClaimNumber)> {
        let held = self.lock();
        held.iter().filter(|(_, it)| it.expires_at <= by).map(|(row, it)| (*row, it.claim)).collect()
    }

    fn renewed(&self, claims: &[(RowId, ClaimNumber)], expires_at: Timestamp) {
        let mut held = self.lock();
        for (row, claim) in claims {
            if let Some(in_hand) = held.get_mut(row).filter(|in_hand| in_hand.claim == *claim) {
                in_hand.expires_at = expires_at;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RowId, InHand>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
