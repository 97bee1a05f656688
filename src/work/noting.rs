//! What has to be on disk before a request leaves that is not safe to repeat: everything that the request is built
//! from, and that it leaves.

use std::sync::Arc;

use super::{
    ending::Stop,
    noter::Notes,
    worker::{Worker, longest_claim},
};
use crate::{
    appliance::Appliance,
    downstream::Request,
    model::{ClaimNumber, RowId, Timestamp},
    store::{
        Held, StoreError,
        settle::{self, Sent, Standing},
    },
};

/// A request that is ready to leave.
pub(super) struct Leaving {
    pub(super) request: Request,
    /// Its `Idempotency-Key`.
    pub(super) key: Option<String>,
    /// What was noted before it: what holds if it does not leave after all, or is turned away.
    pub(super) sent_before: Option<Sent>,
}

impl Leaving {
    /// Whether it is another one than that which is noted: the same one would carry the same key.
    pub(super) fn differs(&self) -> bool {
        let noted = self.sent_before.as_ref().and_then(|sent| sent.key.as_ref());
        noted.is_some_and(|noted| Some(noted) != self.key.as_ref())
    }

    /// How it stands noted once it may have been carried out, where it leaves at this time: since the first one left.
    pub(super) fn sent(&self, at: Timestamp) -> Sent {
        match &self.sent_before {
            None => Sent { at, key: self.key.clone() },
            Some(before) => Sent { at: before.at, key: before.key.clone().or_else(|| self.key.clone()) },
        }
    }
}

/// What is to be written of a row, and until when that renews its claim.
pub(super) struct Note {
    pub(super) row: RowId,
    pub(super) claim: ClaimNumber,
    /// How it stands; nothing where the claim is renewed and no more.
    pub(super) standing: Option<Standing>,
    pub(super) claim_expires_at: Timestamp,
}

impl Worker {
    /// Writes down that this request leaves, and what it is built from. Renews the claim.
    pub(super) async fn note(&mut self, leaving: &Leaving, notes: &Notes) -> Result<(), Stop> {
        let now = self.appliance.clock.now();
        self.standing.sent = Some(leaving.sent(now));
        self.standing.first_request_at = self.standing.first_request_at.or(Some(now));
        let standing = Standing { progress: self.sealed_progress(), ..self.standing.clone() };
        self.write(Some(standing), self.claimed_until(), notes).await?;
        self.is_noted = true;
        Ok(())
    }

    /// Writes down what came of a request that is never sent again, before another step is waited for: a death must not make
    /// a doubt of what is known.
    pub(super) async fn keep(&mut self, notes: &Notes) -> Result<(), Stop> {
        let standing = Standing { progress: self.sealed_progress(), ..self.standing.clone() };
        self.write(Some(standing), self.claimed_until(), notes).await
    }

    /// A note renews the claim, and never makes it shorter: it may have to outlast a long request.
    fn claimed_until(&self) -> Timestamp {
        let now = self.appliance.clock.now();
        let longest = now.after(longest_claim(&self.appliance.config));
        now.after(self.appliance.config.workers.claim_ttl).max(self.claim_expires_at.min(longest))
    }

    /// Renews the claim.
    pub(super) async fn renew(&mut self, expires_at: Timestamp, notes: &Notes) -> Result<(), Stop> {
        self.write(None, expires_at, notes).await
    }

    async fn write(
        &mut self,
        standing: Option<Standing>,
        claim_expires_at: Timestamp,
        notes: &Notes,
    ) -> Result<(), Stop> {
        let (row, claim) = (self.claimed.row, self.claimed.claim);
        let held = notes.write(Note { row, claim, standing, claim_expires_at }).await?;
        self.claim_expires_at = claim_expires_at;
        match held {
            Held::Yes => Ok(()),
            Held::No => Err(Stop::TakenOver),
        }
    }
}

/// Writes notes in one transaction, all or none. Says of each whether the claim was still held.
pub(super) fn write(appliance: &Appliance, notes: Vec<Arc<Note>>) -> Result<Vec<Held>, StoreError> {
    appliance.store.write(move |tx| {
        let write = |note: &Arc<Note>| match &note.standing {
            Some(standing) => settle::checkpoint(tx, note.row, note.claim, standing, note.claim_expires_at),
            None => settle::renew(tx, note.row, note.claim, note.claim_expires_at),
        };
        notes.iter().map(write).collect()
    })
}
