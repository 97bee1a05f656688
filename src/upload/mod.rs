//! An upload: one pass over a body that checks every row, and seals and stores the file while it does; then a batch.
//!
//! Nothing is kept of an upload that does not become a batch. It is noted before its first byte is stored, so that
//! even after a crash the next server knows what to clear away ([`sweep`]). Where the outage that stopped an upload
//! also stands in the way of clearing it away, that is done when the outage is over ([`clear_away`]).

pub mod error_file;
mod leftovers;
mod measured;
pub mod once;
mod skipping;

use std::io::Read;

use serde_json::{Map, Value};

pub use self::leftovers::{GivenUp, clear_away, sweep};
use self::{
    error_file::ErrorFile,
    leftovers::discard,
    measured::{Measured, promise},
    once::HeldKey,
    skipping::Skipping,
};
use crate::{
    appliance::Appliance,
    crash_point::crash_point,
    crypto::{DataKey, Place, Purpose, SealingWriter},
    intake::{Accepted, Finding, Options, Refused, Rules, pass},
    model::{BatchId, Timestamp, Workflow, workflow::OnInvalidRow},
    objects::ObjectError,
    room::{FileSoFar, NoRoom, Place as Room},
    store::{
        StoreError,
        batches::{self, Batch, NewBatch},
        keys::SealedSecret,
        upload_keys::{self, Remembered},
        uploads::{self, Upload},
    },
    work::open_batch::{BatchDetails, OpenBatchError},
};

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
    /// What it needs would reach into what is kept back of the disk.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The same client uploaded the same file not long ago, as this batch.
    #[error("the same file was uploaded before")]
    Duplicate(BatchId),
    /// Its `Idempotency-Key` came first with another file or context.
    #[error("the key was used for another upload")]
    KeyReused,
    /// Another upload with the same `Idempotency-Key` became a batch meanwhile.
    #[error("the key is in use")]
    KeyInUse,
    /// What its `Idempotency-Key` is remembered by does not open.
    #[error(transparent)]
    Remembered(#[from] OpenBatchError),
}

/// How a body is to be taken.
pub struct Taking<'a> {
    /// It is gzip.
    pub gzip: bool,
    /// How many bytes were announced; 0 where none were.
    pub announced: u64,
    /// Where every finding is written aside, for a caller who wants all of them.
    pub errors: Option<&'a mut ErrorFile>,
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
    room: Room<'a>,
    /// When its first byte was awaited.
    begun: Timestamp,
    kept: bool,
}

/// What else is known of an upload.
#[derive(Debug)]
pub struct Meta {
    /// The client's key in the database.
    pub client: i64,
    /// The file's name where it came from.
    pub file_name: Option<String>,
    /// What the client gave with it: templates know it as `context`.
    pub context: Map<String, Value>,
    /// What we know of the request ourselves: `context.request` in templates.
    pub request: Value,
    /// Whether the same file may be uploaded again.
    pub allow_duplicate: bool,
    /// Its `Idempotency-Key`.
    pub key: Option<HeldKey>,
}

/// Reads a body to its end: checks it, seals it, stores it. Blocks.
pub fn receive<'a>(
    appliance: &'a Appliance,
    workflow: &'a Workflow,
    body: impl Read,
    taking: Taking<'_>,
) -> Result<Received<'a>, UploadError> {
    let (id, owner, begun) = (BatchId::random(), appliance.owner, appliance.clock.now());
    let mut room = appliance.room.place();
    promise(appliance, &mut room, FileSoFar { announced: taking.announced, ..FileSoFar::default() })?;
    let upload = appliance.store.write(move |tx| uploads::begin(tx, id, owner))?;
    let key = DataKey::generate();
    let mut noted = Noted { appliance, upload, room, begun, kept: false };
    let accepted = noted.store(workflow, &key, body, taking);
    // Where it is refused, dropping what was noted clears it away.
    Ok(Received { accepted: accepted?, workflow, key, noted })
}

/// The same verdict on a body as [`receive`] would give, and nothing kept. Blocks.
pub fn validate(
    appliance: &Appliance,
    workflow: &Workflow,
    body: impl Read,
    taking: Taking<'_>,
) -> Result<Accepted, UploadError> {
    let (spool_dir, Taking { gzip, mut errors, .. }) = (appliance.spool_dir(), taking);
    let options = Options { gzip, spool_dir: &spool_dir };
    let mut listener = |finding: &Finding| errors.as_mut().map_or(Ok(()), |errors| errors.add(finding));
    Ok(pass::run(body, rules(appliance, workflow)?, options, std::io::sink(), &mut listener)?)
}

/// The batch that a file of this client repeats, so that it would be refused. Blocks.
pub fn earlier(
    appliance: &Appliance,
    workflow: &Workflow,
    client: i64,
    sha256: &[u8; 32],
) -> Result<Option<BatchId>, StoreError> {
    let since = appliance.clock.now().before(workflow.duplicate_window);
    appliance.store.read(|connection| batches::same_file(connection, client, &workflow.name, sha256, since))
}

fn rules<'a>(appliance: &'a Appliance, workflow: &Workflow) -> Result<&'a Rules, UploadError> {
    appliance.rules(workflow).ok_or(UploadError::Workflow)
}

/// The name of a batch's stored file.
fn object_name(id: BatchId) -> String {
    format!("{id}.csv")
}

impl Noted<'_> {
    fn store(
        &mut self,
        workflow: &Workflow,
        key: &DataKey,
        body: impl Read,
        taking: Taking<'_>,
    ) -> Result<Accepted, UploadError> {
        let id = self.upload.id;
        let object = self.appliance.objects.create(&object_name(id))?;
        let mut sealing =
            SealingWriter::new(object, key, Place::batch(Purpose::File, id)).map_err(ObjectError::from)?;
        let mut skipping = Skipping::new(self.appliance, self.upload);
        let (spool_dir, Taking { gzip, announced, mut errors }) = (self.appliance.spool_dir(), taking);
        let options = Options { gzip, spool_dir: &spool_dir };
        let skips = workflow.on_invalid_row == OnInvalidRow::Skip;
        let mut listener = |finding: &Finding| {
            errors.as_mut().map_or(Ok(()), |errors| errors.add(finding))?;
            if skips { skipping.skip(finding) } else { Ok(()) }
        };
        let rules = rules(self.appliance, workflow)?;
        let mut refused = None;
        let tee = Measured::new(&mut sealing, self.appliance, &mut self.room, announced, &mut refused);
        let accepted = pass::run(body, rules, options, tee, &mut listener);
        let accepted = accepted.map_err(|error| refused.take().unwrap_or_else(|| error.into()))?;
        // Now it is known what its rows need, whatever was announced.
        let file = FileSoFar { announced: 0, bytes: accepted.bytes, lines: accepted.rows };
        promise(self.appliance, &mut self.room, file)?;
        skipping.flush()?;
        sealing.finish().map_err(ObjectError::from)?.finish()?;
        Ok(accepted)
    }
}

/// Why a file that was received does not become a batch after all.
enum Late {
    Duplicate(BatchId),
    KeyInUse,
}

impl Received<'_> {
    /// Its valid rows.
    pub fn rows(&self) -> u32 {
        saturated(self.accepted.rows)
    }

    /// Makes the file a batch, and gives its id and the answer that `told` makes of it. Returns after the commit: the
    /// batch is there to stay, and so is the answer where the upload has a key.
    pub fn commit(
        self,
        meta: Meta,
        told: impl FnOnce(Batch) -> Vec<u8> + Send + 'static,
    ) -> Result<(BatchId, Vec<u8>), UploadError> {
        let Self { workflow, key, accepted, mut noted } = self;
        let (appliance, upload) = (noted.appliance, noted.upload);
        let id = upload.id;
        let kept = appliance.workflows.current(&workflow.name).ok_or(UploadError::Workflow)?;
        let fingerprint = once::fingerprint(appliance, &accepted.sha256, &meta.context);
        let mut context = meta.context;
        context.insert("request".to_owned(), meta.request);
        let details =
            BatchDetails { file_name: meta.file_name, header: accepted.header, context: Value::Object(context) };
        let plain = serde_json::to_vec(&details).unwrap_or_default();
        // Held until the commit: `keys rotate` takes a key out of use only when no such ring is held any more.
        let ring = appliance.ring();
        let wrapped = ring.wrap(&key, id);
        let new = NewBatch {
            client: meta.client,
            workflow: workflow.name.clone(),
            workflow_version: kept.version,
            data_key: SealedSecret { key_id: wrapped.key_id, sealed: wrapped.sealed },
            details: key.seal(Place::batch(Purpose::Context, id), &plain),
            object: object_name(id),
            file_bytes: accepted.bytes,
            file_sha256: accepted.sha256,
            rows: saturated(accepted.rows),
            skipped: saturated(accepted.skipped),
        };
        let (rows, skipped, bytes, window) = (new.rows, new.skipped, new.file_bytes, workflow.duplicate_window);
        // Dropped after the commit: until then nobody else may use the key.
        let held = meta.key;
        let once = held.as_ref().map(|held| held.key.clone());
        crash_point("upload.stored");
        let created = appliance.store.write(move |tx| {
            if !meta.allow_duplicate {
                let since = tx.now.before(window);
                let (client, workflow) = (new.client, &new.workflow);
                if let Some(earlier) = batches::same_file(tx.connection, client, workflow, &new.file_sha256, since)? {
                    return Ok(Err(Late::Duplicate(earlier)));
                }
            }
            if let Some(once) = &once
                && upload_keys::find(tx.connection, once, tx.now)?.is_some()
            {
                return Ok(Err(Late::KeyInUse));
            }
            let answer = told(batches::create(tx, upload, &new)?);
            if let Some(once) = &once {
                let sealed = key.seal(Place::batch(Purpose::Answer, id), &answer);
                let what = Remembered { batch: upload.batch, fingerprint, answer: sealed };
                upload_keys::remember(tx, once, &what, tx.now.after(once::REMEMBERED_FOR))?;
            }
            Ok(Ok(answer))
        })?;
        let answer = created.map_err(|late| match late {
            Late::Duplicate(earlier) => UploadError::Duplicate(earlier),
            Late::KeyInUse => UploadError::KeyInUse,
        })?;
        crash_point("upload.committed");
        noted.kept = true;
        appliance.metrics.uploads.accepted(&workflow.name, rows, skipped, bytes);
        tracing::info!(event = "batch.accepted", batch = %id, rows, skipped, "batch accepted");
        if let Some(traces) = &appliance.traces {
            traces.upload(id, &workflow.name, noted.begun, rows);
        }
        appliance.extract_bell.ring();
        Ok((id, answer))
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = discard(self.appliance, self.upload)
        {
            leftovers::not_cleared(self.upload, &error);
            self.appliance.given_up.add(self.upload);
        }
    }
}

/// Rows are limited to what fits; the column says so again.
fn saturated(rows: u64) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}
