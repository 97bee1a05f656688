//! Under which key a request left of which only the claim is noted: its claimant died before anybody wrote down more.
//!
//! What it was built from is on disk, and so is the version of the workflow that it was built by. So the key can be worked out
//! again, as long as the batch keeps that version.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    idempotency::{self, Origin},
    open_batch::OpenBatch,
    progress::Progress,
    workflows::Kept,
};
use crate::{
    appliance::Appliance,
    crypto::Purpose,
    downstream::Draft,
    model::{record::Record, workflow::Repeat},
    store::upgrades::Unkeyed,
    template::Scope,
};

/// No request has this key, so that what was sent is never taken for what would be sent now.
const NOBODYS: &str = "";

/// The rows of a batch, and the version by which they have sent what they sent.
pub(super) struct Sender {
    appliance: Arc<Appliance>,
    batch: OpenBatch,
    /// None where that cannot be read any more.
    was: Option<Arc<Kept>>,
    /// By step; those that carry a key.
    drafts: BTreeMap<u32, Draft>,
}

impl Sender {
    pub(super) fn new(appliance: &Arc<Appliance>, batch: OpenBatch, was: Option<Arc<Kept>>) -> Self {
        let steps = was.iter().flat_map(|was| &was.workflow.steps);
        let carry = (0..).zip(steps).filter(|(_, step)| step.repeat == Repeat::IdempotencyKey);
        let drafts = carry.filter_map(|(place, step)| Some((place, Draft::new(step).ok()?))).collect();
        Self { appliance: appliance.clone(), batch, was, drafts }
    }

    /// What rows have sent, where that can be read.
    pub(super) fn was(&self) -> Option<&Kept> {
        self.was.as_deref()
    }

    /// The key of what a row may have sent at this step.
    pub(super) fn key(&self, place: u32, row: &Unkeyed) -> String {
        self.try_key(place, row).unwrap_or_else(|| NOBODYS.to_owned())
    }

    fn try_key(&self, place: u32, row: &Unkeyed) -> Option<String> {
        let (batch, number) = (&self.batch, row.row.number());
        let workflow = &self.was()?.workflow;
        let step = workflow.steps.get(place as usize)?;
        let draft = self.drafts.get(&place)?;
        let opened = batch.key.open(batch.place(Purpose::Row, number), &row.data).ok()?;
        let record = Record::decode(&opened)?;
        let progress = match &row.progress {
            None => Progress::default(),
            Some(sealed) => Progress::decode(&batch.key.open(batch.place(Purpose::Progress, number), sealed).ok()?)?,
        };
        let saved = progress.saved();
        let scope = Scope::new(batch.cells_for(workflow, &record.cells), &saved, &batch.details.context);
        let fingerprint = draft.fingerprint(&scope).ok()?;
        let origin = Origin::of(batch.origin(), number, row.line, &record.origin);
        Some(idempotency::key(&self.appliance.identity, &origin, &step.name, row.retries, &fingerprint))
    }
}
