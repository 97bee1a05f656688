//! What has to be on disk before a request leaves that is not safe to repeat: everything that the request is built
//! from, and that it leaves.

use std::sync::Arc;

use super::{
    idempotency::Origin,
    open_batch::OpenBatch,
    progress::Progress,
    worker::{Patience, Worker},
};
use crate::{
    appliance::Appliance,
    downstream::{Request, Way},
    model::{ClaimNumber, RowId, Timestamp},
    store::{
        Held, StoreError,
        claims::ClaimedRow,
        settle::{self, Sent, Standing},
    },
    telemetry::traces::RowTrace,
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

/// What is to be written, and the claim that this renews.
pub(super) struct Note {
    pub(super) row: RowId,
    pub(super) claim: ClaimNumber,
    pub(super) standing: Standing,
    pub(super) claim_expires_at: Timestamp,
}

/// A row whose next request leaves when its note is written. No thread needs to wait with it: whoever is free goes on.
pub(super) struct Noting {
    pub(super) note: Arc<Note>,
    leaving: Leaving,
    pub(super) claimed: Arc<ClaimedRow>,
    batch: Arc<OpenBatch>,
    origin: Origin,
    cells: Vec<String>,
    progress: Progress,
    standing: Standing,
    spent: bool,
    trace: Option<RowTrace>,
    patience: Patience,
    way: Way,
}

impl Worker<'_> {
    /// Lets the row lie until its note is written.
    pub(super) fn lay_aside(mut self, leaving: Leaving) -> Noting {
        let now = self.appliance.clock.now();
        self.standing.sent = Some(leaving.sent(now));
        self.standing.first_request_at = self.standing.first_request_at.or(Some(now));
        let note = Note {
            row: self.claimed.row,
            claim: self.claimed.claim,
            standing: Standing { progress: self.sealed_progress(), ..self.standing.clone() },
            claim_expires_at: now.after(self.appliance.config.workers.claim_ttl),
        };
        let Self { claimed, batch, origin, cells, progress, standing, spent, trace, patience, way, .. } = self;
        Noting {
            note: Arc::new(note),
            leaving,
            claimed,
            batch,
            origin,
            cells,
            progress,
            standing,
            spent,
            trace,
            patience,
            way,
        }
    }
}

impl Noting {
    /// Whether the request is one that is never sent again: those that may be have a key. From its note until its outcome is
    /// on disk a death leaves a row of which nobody knows what became of it.
    pub(super) fn is_once_only(&self) -> bool {
        self.leaving.key.is_none()
    }

    /// The row again as it was laid aside, and its request.
    pub(super) fn take_up(self, appliance: &Appliance) -> (Worker<'_>, Leaving) {
        let Self { note, leaving, claimed, batch, origin, cells, progress, standing, spent, trace, patience, way } =
            self;
        let worker = Worker {
            appliance,
            claim_expires_at: note.claim_expires_at,
            is_noted: true,
            claimed,
            batch,
            way,
            origin,
            cells,
            progress,
            standing,
            spent,
            trace,
            patience,
        };
        (worker, leaving)
    }
}

/// Writes notes in one transaction, all or none. Says of each whether the claim was still held.
pub(super) fn write(appliance: &Appliance, notes: Vec<Arc<Note>>) -> Result<Vec<Held>, StoreError> {
    appliance.store.write(move |tx| {
        let write =
            |note: &Arc<Note>| settle::checkpoint(tx, note.row, note.claim, &note.standing, note.claim_expires_at);
        notes.iter().map(write).collect()
    })
}

/// Writes one note.
pub(super) fn write_one(appliance: &Appliance, note: &Arc<Note>) -> Result<Held, StoreError> {
    write(appliance, vec![note.clone()]).and_then(|held| held.first().copied().ok_or(StoreError::Closed))
}
