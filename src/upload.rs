//! An upload: one pass over a body that checks every row, and seals and stores the file while it does; then a batch.
//!
//! Nothing is kept of an upload that does not become a batch. It is noted before its first byte is stored, so that
//! even after a crash the next server knows what to clear away ([`sweep`]). Where the outage that stopped an upload
//! also stands in the way of clearing it away, that is done when the outage is over ([`clear_away`]).

use std::{
    io::Read,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;

use crate::{
    appliance::Appliance,
    crash_point::crash_point,
    crypto::{DataKey, Place, Purpose, SealingWriter},
    intake::{Accepted, Finding, Options, Refused, Rules, pass},
    model::{BatchId, Timestamp, Workflow, workflow::OnInvalidRow},
    objects::ObjectError,
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

/// How often it is tried to clear away what is left of uploads.
const CLEAR_AWAY_EVERY: Duration = Duration::from_secs(5);

/// Why an upload does not become a batch.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The file is not valid, too large, or broke off.
    #[error("the file is refused")]
    Refused(#[from] Refused),
    /// Its workflow is not configured.
    #[error("there is no such workflow")]
    Workflow,
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
    workflow: &'a Workflow,
    key: DataKey,
    accepted: Accepted,
    noted: Noted<'a>,
}

/// An upload that is noted in the database. Dropped before it is a batch, it is cleared away.
struct Noted<'a> {
    appliance: &'a Appliance,
    upload: Upload,
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
    let noted = Noted { appliance, upload, kept: false };
    let accepted = noted.store(workflow, &key, body, gzip);
    // Where it is refused, dropping what was noted clears it away.
    Ok(Received { accepted: accepted?, workflow, key, noted })
}

/// The same verdict on a body as [`receive`] would give, and nothing kept. Blocks.
pub fn validate(
    appliance: &Appliance,
    workflow: &Workflow,
    body: impl Read,
    gzip: bool,
) -> Result<Accepted, UploadError> {
    let spool_dir = appliance.spool_dir();
    let options = Options { gzip, spool_dir: &spool_dir };
    Ok(pass::run(body, rules(appliance, workflow)?, options, std::io::sink(), &mut |_| Ok(()))?)
}

fn rules<'a>(appliance: &'a Appliance, workflow: &Workflow) -> Result<&'a Rules, UploadError> {
    appliance.rules(workflow).ok_or(UploadError::Workflow)
}

/// The name of a batch's stored file.
fn object_name(id: BatchId) -> String {
    format!("{id}.csv")
}

impl Noted<'_> {
    fn store(&self, workflow: &Workflow, key: &DataKey, body: impl Read, gzip: bool) -> Result<Accepted, UploadError> {
        let id = self.upload.id;
        let object = self.appliance.objects.create(&object_name(id))?;
        let mut sealing =
            SealingWriter::new(object, key, Place::batch(Purpose::File, id)).map_err(ObjectError::from)?;
        let mut skipping = Skipping { appliance: self.appliance, upload: self.upload, noted: 0, waiting: Vec::new() };
        let spool_dir = self.appliance.spool_dir();
        let options = Options { gzip, spool_dir: &spool_dir };
        let skips = workflow.on_invalid_row == OnInvalidRow::Skip;
        let mut listener = |finding: &Finding| if skips { skipping.skip(finding) } else { Ok(()) };
        let accepted = pass::run(body, rules(self.appliance, workflow)?, options, &mut sealing, &mut listener)?;
        skipping.flush()?;
        sealing.finish().map_err(ObjectError::from)?.finish()?;
        Ok(accepted)
    }
}

impl Received<'_> {
    /// Makes the file a batch. Returns after the commit: the batch is there to stay.
    pub fn commit(mut self, meta: Meta) -> Result<Batch, UploadError> {
        let (appliance, upload) = (self.noted.appliance, self.noted.upload);
        let id = upload.id;
        let details =
            BatchDetails { file_name: meta.file_name, header: self.accepted.header.clone(), context: meta.context };
        let plain = serde_json::to_vec(&details).unwrap_or_default();
        // Held until the commit: `keys rotate` takes a key out of use only when no such ring is held any more.
        let ring = appliance.ring();
        let wrapped = ring.wrap(&self.key, id);
        let new = NewBatch {
            client: meta.client,
            workflow: self.workflow.name.clone(),
            key_id: wrapped.key_id,
            data_key: wrapped.sealed,
            details: self.key.seal(Place::batch(Purpose::Context, id), &plain),
            object: object_name(id),
            file_bytes: self.accepted.bytes,
            file_sha256: self.accepted.sha256,
            rows: saturated(self.accepted.rows),
            skipped: saturated(self.accepted.skipped),
        };
        let window = self.workflow.duplicate_window;
        crash_point("upload.stored");
        let created = appliance.store.write(move |tx| {
            if !meta.allow_duplicate {
                let since: Timestamp = tx.now.before(window);
                if let Some(earlier) = batches::same_file(tx.connection, &new, since)? {
                    return Ok(Err(earlier));
                }
            }
            batches::create(tx, upload, &new).map(Ok)
        })?;
        let batch = created.map_err(UploadError::Duplicate)?;
        crash_point("upload.committed");
        self.noted.kept = true;
        tracing::info!(batch = %id, rows = batch.counts.total, skipped = batch.skipped, "batch accepted");
        appliance.extract_bell.ring();
        Ok(batch)
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = discard(self.appliance, self.upload)
        {
            tracing::warn!(upload = %self.upload.id, %error, "a refused upload could not be cleared away yet");
            self.appliance.given_up.add(self.upload);
        }
    }
}

/// Rows are limited to what fits; the column says so again.
fn saturated(rows: u64) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
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
    // What was only half written has no name yet that could be deleted.
    appliance.objects.sweep()?;
    Ok(())
}

/// Uploads that this process gave up and could not clear away yet. They are noted in the database too, for the next
/// server; that one cannot tell them from uploads under way as long as this one runs.
#[derive(Default)]
pub struct GivenUp(Mutex<Vec<Upload>>);

impl GivenUp {
    fn add(&self, upload: Upload) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(upload);
    }

    fn take(&self) -> Option<Upload> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// Clears away what is left of given up uploads, as soon as that is possible, until the appliance closes.
pub fn clear_away(appliance: &Appliance) {
    while !appliance.closing.wait(CLEAR_AWAY_EVERY) {
        while let Some(upload) = appliance.given_up.take() {
            if let Err(error) = discard(appliance, upload) {
                tracing::warn!(upload = %upload.id, %error, "a refused upload could not be cleared away yet");
                appliance.given_up.add(upload);
                break;
            }
            tracing::info!(upload = %upload.id, "a refused upload is cleared away");
        }
    }
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

impl Skipping<'_> {
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
