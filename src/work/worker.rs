//! A claimed row with everything opened that its steps need.

use std::{sync::Arc, time::Duration};

use super::{
    idempotency::Origin,
    open_batch::{OpenBatch, OpenBatchError},
    progress::Progress,
};
use crate::{
    appliance::Appliance,
    config::Config,
    crypto::Purpose,
    downstream::{Way, WayError},
    model::{RowId, Timestamp, Workflow, record::Record},
    store::{claims::ClaimedRow, settle::Standing},
    telemetry::traces::RowTrace,
};

/// How long a row is held while it waits for a permit.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// So long; then it is given back.
    Brief(Duration),
    /// As long as it takes: somebody asked for this very row.
    Unlimited,
}

/// Somebody who waits without limit renews the claim at least this often.
pub(super) const LONGEST_WAIT_BETWEEN_RENEWALS: Duration = Duration::from_secs(5);

/// No claim is ever made or renewed for longer: for a wait, a request and what it lasts then.
pub fn longest_claim(config: &Config) -> Duration {
    let request = config.dependencies.values().map(|dependency| dependency.timeout).max().unwrap_or_default();
    config.workers.claim_ttl + request + LONGEST_WAIT_BETWEEN_RENEWALS
}

/// What is sealed of a claimed row. Nobody needs it once it is opened, and it can be long.
pub(super) struct Sealed {
    data: Vec<u8>,
    progress: Option<Vec<u8>>,
    width: usize,
}

impl Sealed {
    /// Takes it out of there.
    pub(super) fn out_of(claimed: &mut ClaimedRow) -> Self {
        let width = claimed.width();
        Self { data: std::mem::take(&mut claimed.data), progress: claimed.progress.take(), width }
    }
}

/// A claimed row being worked.
pub(super) struct Worker {
    pub(super) appliance: Arc<Appliance>,
    pub(super) claimed: Arc<ClaimedRow>,
    pub(super) batch: Arc<OpenBatch>,
    /// What its batch's workflow calls.
    pub(super) way: Way,
    pub(super) origin: Origin,
    /// In the file's order.
    pub(super) cells: Vec<String>,
    pub(super) progress: Progress,
    /// The bytes that all of it is stored in.
    pub(super) width: usize,
    pub(super) standing: Standing,
    /// Whether it is on disk that a request of the step it is at leaves, and what that is built from.
    pub(super) is_noted: bool,
    /// Whether an attempt was counted since the claim.
    pub(super) spent: bool,
    /// Whether a request left since the claim.
    pub(super) has_sent: bool,
    pub(super) claim_expires_at: Timestamp,
    pub(super) patience: Patience,
    /// Where its way is told, if anywhere.
    pub(super) trace: Option<RowTrace>,
}

impl Worker {
    /// Opens a claimed row. Its batch may have to be read for that.
    pub(super) fn open(
        appliance: &Arc<Appliance>,
        claimed: &Arc<ClaimedRow>,
        sealed: Sealed,
        patience: Patience,
    ) -> Result<Self, Unopened> {
        let batch = appliance.open_batch(claimed.row.batch(), claimed.version)?;
        let way = batch.kept.way().map_err(|error| Unopened::NoWay(error.clone()))?.clone();
        let number = claimed.row.number();
        let opened = batch.key.open(batch.place(Purpose::Row, number), &sealed.data).map_err(|_| Unopened::Row)?;
        let record = Record::decode(&opened).ok_or(Unopened::Row)?;
        let progress = match &sealed.progress {
            None => Progress::default(),
            Some(sealed) => {
                let opened = batch.key.open(batch.place(Purpose::Progress, number), sealed);
                let opened = opened.map_err(|_| Unopened::Row)?;
                Progress::decode(&opened).ok_or(Unopened::Row)?
            }
        };
        let trace = appliance.traces.as_ref().and_then(|traces| traces.row(batch.id, number));
        Ok(Self {
            trace,
            origin: Origin::of(batch.origin(), number, claimed.line, &record.origin),
            cells: record.cells,
            progress,
            width: sealed.width,
            standing: Standing {
                step: claimed.step,
                attempts: claimed.attempts,
                progress: None,
                // A claimant that died may have sent its first request before anybody wrote that down.
                first_request_at: claimed.first_request_at.or(claimed.sent.as_ref().map(|sent| sent.at)),
                sent: claimed.sent.clone(),
            },
            is_noted: claimed.is_noted,
            spent: false,
            has_sent: false,
            claim_expires_at: claimed.claim_expires_at,
            appliance: appliance.clone(),
            claimed: claimed.clone(),
            batch,
            way,
            patience,
        })
    }

    /// Which row it is.
    pub(super) fn row(&self) -> RowId {
        self.claimed.row
    }

    /// What its batch was accepted under.
    pub(super) fn workflow(&self) -> &Workflow {
        &self.batch.kept.workflow
    }

    /// The cells as templates see them.
    pub(super) fn named_cells(&self) -> impl Iterator<Item = (&str, &str)> {
        self.batch.cells_for(self.workflow(), &self.cells)
    }

    /// What the steps came to so far, as it is stored: nothing before a request has left.
    pub(super) fn sealed_progress(&self) -> Option<Vec<u8>> {
        if self.progress.steps.is_empty() {
            return None;
        }
        let place = self.batch.place(Purpose::Progress, self.claimed.row.number());
        Some(self.batch.key.seal(place, &self.progress.encode()))
    }
}

/// Why a claimed row cannot even be begun.
pub(super) enum Unopened {
    Batch(OpenBatchError),
    /// Its workflow cannot be worked by.
    NoWay(WayError),
    Row,
}

impl From<OpenBatchError> for Unopened {
    fn from(error: OpenBatchError) -> Self {
        Self::Batch(error)
    }
}
