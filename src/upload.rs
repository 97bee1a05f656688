//! An upload: one pass over a body that checks every row, and seals and stores the file while it does; then a batch.
//!
//! Nothing is kept of an upload that does not become a batch. It is noted before its first byte is stored, so that
//! even after a crash the next server knows what to clear away ([`sweep`]).

use std::io::Read;

use serde_json::Value;

use crate::{
    appliance::Appliance,
    crypto::{DataKey, Place, Purpose, SealingWriter},
    intake::{self, Accepted, Finding, Refused, SkippedSink},
    model::{BatchId, Timestamp, Workflow},
    objects::{ObjectError, ObjectWriter},
    store::{
        StoreError,
        batches::{self, Batch, NewBatch},
        skipped::{self, Skipped},
        uploads::{self, Upload},
    },
    work::open_batch::BatchDetails,
};

/// Skipped lines that are noted in one transaction.
const SKIPPED_AT_ONCE: usize = 500;

/// Why an upload does not become a batch.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The file is not valid, too large, or broke off.
    #[error("the file is refused")]
    Refused(#[from] Refused),
    /// It could not be stored.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// It could not be noted.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The same client uploaded the same file not long ago, as this batch.
    #[error("the same file was uploaded before")]
    Duplicate(BatchId),
}

/// A file that was received whole, is valid, and is stored, but is nobody's batch yet. Dropped, it leaves nothing.
pub struct Received<'a> {
    appliance: &'a Appliance,
    workflow: &'a Workflow,
    upload: Upload,
    key: DataKey,
    accepted: Accepted,
    kept: bool,
}

/// What else is known of an upload.
#[derive(Debug, Clone)]
pub struct Meta {
    /// The client's key in the database.
    pub client: i64,
    /// The file's name where it came from.
    pub file_name: Option<String>,
    /// What templates know as `context`.
    pub context: Value,
    /// Whether the same file may be uploaded again.
    pub allow_duplicate: bool,
}

/// Reads a body to its end: checks it, seals it, stores it. Blocks.
pub fn receive<'a>(
    appliance: &'a Appliance,
    workflow: &'a Workflow,
    body: impl Read,
    gzip: bool,
) -> Result<Received<'a>, UploadError> {
    let (id, owner) = (BatchId::random(), appliance.owner);
    let upload = appliance.store.write(move |tx| uploads::begin(tx, id, owner))?;
    let key = DataKey::generate();
    let mut received = Received { appliance, workflow, upload, key, accepted: Accepted::default(), kept: false };
    received.accepted = received.store(body, gzip)?;
    Ok(received)
}

/// The name of a batch's stored file.
fn object_name(id: BatchId) -> String {
    format!("{id}.csv")
}

impl Received<'_> {
    fn store(&self, body: impl Read, gzip: bool) -> Result<Accepted, UploadError> {
        let id = self.upload.id;
        let object: ObjectWriter = self.appliance.objects.create(&object_name(id))?;
        let mut sealing = SealingWriter::new(object, &self.key, Place::batch(Purpose::File, id))
            .map_err(|error| ObjectError::from_write(error))?;
        let mut skipping = Skipping { appliance: self.appliance, upload: self.upload, noted: 0, waiting: Vec::new() };
        let options = self.appliance.intake_options(gzip);
        let accepted = intake::run(body, self.workflow, &options, &mut sealing, &mut skipping)?;
        skipping.flush()?;
        sealing.finish().map_err(ObjectError::from_write)?.finish()?;
        Ok(accepted)
    }

    /// Makes the file a batch. Returns after the commit: the batch is there to stay.
    pub fn commit(mut self, meta: Meta) -> Result<Batch, UploadError> {
        let (id, upload) = (self.upload.id, self.upload);
        let details = BatchDetails {
            file_name: meta.file_name,
            header: self.accepted.header.clone(),
            context: meta.context,
        };
        let plain = serde_json::to_vec(&details).unwrap_or_default();
        let wrapped = self.appliance.ring.wrap(&self.key, id);
        let new = NewBatch {
            client: meta.client,
            workflow: self.workflow.name.clone(),
            key_id: wrapped.key_id,
            data_key: wrapped.sealed,
            details: self.key.seal(Place::batch(Purpose::Context, id), &plain),
            object: object_name(id),
            file_bytes: self.accepted.bytes,
            file_sha256: self.accepted.sha256,
            rows: self.accepted.rows,
            skipped: self.accepted.skipped,
        };
        let window = self.workflow.duplicate_window;
        let created = self.appliance.store.write(move |tx| {
            if !meta.allow_duplicate {
                let since: Timestamp = tx.now.before(window);
                if let Some(earlier) = batches::same_file(tx.connection, &new, since)? {
                    return Ok(Err(earlier));
                }
            }
            batches::create(tx, upload, &new).map(Ok)
        })?;
        let batch = created.map_err(UploadError::Duplicate)?;
        self.kept = true;
        tracing::info!(batch = %id, rows = batch.counts.total, skipped = batch.skipped, "batch accepted");
        self.appliance.extract_bell.ring();
        Ok(batch)
    }
}

impl Drop for Received<'_> {
    fn drop(&mut self) {
        if !self.kept && let Err(error) = discard(self.appliance, self.upload) {
            // It stays noted, so the next start clears it away.
            tracing::warn!(upload = %self.upload.id, %error, "a refused upload could not be cleared away yet");
        }
    }
}

fn discard(appliance: &Appliance, upload: Upload) -> Result<(), UploadError> {
    appliance.objects.delete(&object_name(upload.id))?;
    appliance.store.write(move |tx| uploads::forget(tx, upload))?;
    Ok(())
}

/// Clears away what uploads of dead servers left behind. For a server that has just started.
pub fn sweep(appliance: &Appliance) -> Result<(), UploadError> {
    let abandoned = appliance.store.read(|connection| uploads::abandoned(connection, appliance.owner))?;
    for upload in abandoned {
        tracing::warn!(upload = %upload.id, "an upload that broke off is cleared away");
        discard(appliance, upload)?;
    }
    Ok(())
}

/// Notes what `on_invalid_row = "skip"` leaves out, in pieces.
struct Skipping<'a> {
    appliance: &'a Appliance,
    upload: Upload,
    noted: u64,
    waiting: Vec<Skipped>,
}

impl Skipping<'_> {
    fn flush(&mut self) -> Result<(), StoreError> {
        let (batch, first, faults) = (self.upload.batch, self.noted, std::mem::take(&mut self.waiting));
        self.noted += faults.len() as u64;
        self.appliance.store.write(move |tx| skipped::add(tx, batch, first, &faults))
    }
}

impl SkippedSink for Skipping<'_> {
    fn skip(&mut self, finding: &Finding) -> std::io::Result<()> {
        self.waiting.push(Skipped {
            line: finding.line,
            column: finding.column.clone(),
            column_number: finding.column_number,
            code: finding.code.as_str().to_owned(),
            message: finding.message.clone(),
        });
        if self.waiting.len() < SKIPPED_AT_ONCE { Ok(()) } else { self.flush().map_err(std::io::Error::other) }
    }
}
