//! An upload: one pass over a body that checks every row, and seals and stores the file while it does; then a batch.
//!
//! Nothing is kept of an upload that does not become a batch. It is noted before its first byte is stored, so that
//! even after a crash the next server knows what to clear away ([`sweep`]). Where the outage that stopped an upload
//! also stands in the way of clearing it away, that is done when the outage is over ([`clear_away`]).

pub mod error_file;
mod late;
mod leftovers;
mod measured;
pub mod once;
mod skipping;
mod spool;

use std::{cell::RefCell, io::Read};

use serde_json::{Map, Value};

pub use self::leftovers::{GivenUp, clear_away, sweep};
use self::{
    error_file::ErrorFile,
    late::{LastLook, Late},
    leftovers::discard,
    measured::{Measure, Measured, promise},
    once::HeldKey,
    skipping::{LeftOut, Skipping},
};
use crate::{
    appliance::Appliance,
    crash_point::crash_point,
    crypto::{DataKey, Place, Purpose, SealingWriter, Tag},
    intake::{Accepted, Finding, Options, Refused, Rules, pass},
    model::{
        BatchId, Timestamp, Workflow,
        quota::{Amounts, Exceeded, Stored},
        workflow::OnInvalidRow,
    },
    objects::ObjectError,
    room::{FileSoFar, MostOfFile, NoRoom, Place as Room},
    store::{
        StoreError, Tx,
        batches::{self, Batch, NewBatch},
        keys::SealedSecret,
        quotas,
        upload_keys::{self, Remembered, UploadKey},
        uploads::{self, Upload},
    },
    work::{
        idempotency,
        open_batch::{BatchDetails, OpenBatchError},
    },
};

/// Why an upload does not become a batch.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The file is not valid, too large, or broke off.
    #[error("the file is refused")]
    Refused(#[source] Refused),
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
    /// Its client would have more than it may have.
    #[error("a quota is exceeded")]
    Quota(Exceeded),
    /// The same client uploaded the same file not long ago, as this batch.
    #[error("the same file was uploaded before")]
    Duplicate(BatchId),
    /// Its `Idempotency-Key` came first with another file or context.
    #[error("the key was used for another upload")]
    KeyReused,
    /// Another upload with the same `Idempotency-Key` became a batch meanwhile.
    #[error("the key is in use")]
    KeyInUse,
    /// Whoever sends it lost the right to while it was under way.
    #[error("its key was taken away")]
    Revoked,
    /// What its `Idempotency-Key` is remembered by does not open.
    #[error(transparent)]
    Remembered(#[from] OpenBatchError),
}

impl From<Refused> for UploadError {
    /// What lies aside may not reach into the reserve either.
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Spool(error) => {
                error.downcast::<NoRoom>().map_or_else(|error| Self::Refused(Refused::Spool(error)), Self::NoRoom)
            }
            other => Self::Refused(other),
        }
    }
}

/// How a body is to be taken.
pub struct Taking<'a> {
    /// Whose it is: the client's key in the database.
    pub client: i64,
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
    left_out: LeftOut,
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
    check_quotas(appliance, taking.client, 0, 0)?;
    let mut room = appliance.room.place();
    let file = FileSoFar { announced: taking.announced, most: most(workflow), ..FileSoFar::default() };
    promise(appliance, &mut room, file)?;
    let upload = appliance.store.write(move |tx| uploads::begin(tx, id, owner))?;
    let key = DataKey::generate();
    let mut noted = Noted { appliance, upload, room, begun, kept: false };
    // Where it is refused, dropping what was noted clears it away.
    let (accepted, left_out) = noted.store(workflow, &key, body, taking)?;
    Ok(Received { accepted, left_out, workflow, key, noted })
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
    let digest = file_digest(appliance, client, sha256);
    appliance.store.read(|connection| batches::same_file(connection, client, &workflow.name, &digest, since))
}

fn rules<'a>(appliance: &'a Appliance, workflow: &Workflow) -> Result<&'a Rules, UploadError> {
    appliance.rules(workflow).ok_or(UploadError::Workflow)
}

/// What a client's file is known again by. Without the keys nobody tells by it whether a file is the one that he guesses, nor
/// whether two clients have the same.
fn file_digest(appliance: &Appliance, client: i64, sha256: &[u8; 32]) -> Tag {
    appliance.identity.tag(&[b"file", &client.to_be_bytes(), sha256])
}

fn most(workflow: &Workflow) -> MostOfFile {
    MostOfFile { bytes: workflow.max_bytes, rows: workflow.max_rows.into() }
}

/// What a batch of which so much is stored adds to what its client has.
fn amounts(stored: Stored) -> Amounts {
    Amounts { pending_rows: stored.rows, stored_bytes: stored.bytes(), batches: 1 }
}

/// Refuses at once what would be refused at its end: a client that has all it may have, or whose file is too large for what
/// is left to it, with what was found wrong in it.
fn check_quotas(appliance: &Appliance, client: i64, file_bytes: u64, kept_bytes: u64) -> Result<(), UploadError> {
    // At least one row, of however many.
    let more = amounts(Stored { file_bytes, rows: 1, kept_bytes, saved_bytes: 0 });
    let exceeded =
        appliance.store.read(|connection| quotas::exceeded(connection, client, appliance.config.quotas, more))?;
    exceeded.map_or(Ok(()), |exceeded| Err(UploadError::Quota(exceeded)))
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
    ) -> Result<(Accepted, LeftOut), UploadError> {
        let (appliance, id, client) = (self.appliance, self.upload.id, taking.client);
        let object = appliance.objects.create(&object_name(id))?;
        let mut sealing =
            SealingWriter::new(object, key, Place::batch(Purpose::File, id)).map_err(ObjectError::from)?;
        let (spool_dir, Taking { gzip, announced, mut errors, .. }) = (appliance.spool_dir(), taking);
        let file = FileSoFar { announced, most: most(workflow), ..FileSoFar::default() };
        let measure = RefCell::new(Measure::new(appliance, &mut self.room, client, file, gzip));
        let mut skipping = Skipping::new(spool_dir.clone(), &measure);
        let skips = workflow.on_invalid_row == OnInvalidRow::Skip;
        let mut listener = |finding: &Finding| {
            errors.as_mut().map_or(Ok(()), |errors| errors.add(finding))?;
            if skips { skipping.skip(finding) } else { Ok(()) }
        };
        let (rules, options) = (rules(appliance, workflow)?, Options { gzip, spool_dir: &spool_dir });
        let passed = pass::run(body, rules, options, Measured::new(&mut sealing, &measure), &mut listener);
        let left_out = skipping.finish();
        let accepted = match (passed, measure.into_inner().into_refused()) {
            // What would be refused on an empty disk too is told first.
            (Err(error @ Refused::TooLarge { .. }), _) => return Err(error.into()),
            (_, Some(refused)) => return Err(refused),
            (accepted, None) => accepted?,
        };
        let left_out = left_out.map_err(Refused::Spool)?;
        // Now it is known what its rows need, whatever was announced.
        let (bytes, lines, findings) = (accepted.bytes, accepted.rows, left_out.bytes);
        promise(appliance, &mut self.room, FileSoFar { announced: 0, bytes, lines, findings, ..file })?;
        sealing.finish().map_err(ObjectError::from)?.finish()?;
        Ok((accepted, left_out))
    }
}

impl Received<'_> {
    /// Its valid rows.
    pub fn rows(&self) -> u32 {
        saturated(self.accepted.rows)
    }

    /// The SHA-256 of the inflated file, in hexadecimal digits.
    pub fn sha256(&self) -> String {
        hex(&self.accepted.sha256)
    }

    /// Makes the file a batch, if `may` says so in that transaction, and gives its id and the answer that `told` makes of
    /// it. Returns after the commit: the batch is there to stay, and so is the answer where the upload has a key.
    pub fn commit(
        self,
        meta: Meta,
        may: impl FnOnce(&Tx<'_>) -> Result<bool, StoreError> + Send + 'static,
        told: impl FnOnce(Batch) -> Vec<u8> + Send + 'static,
    ) -> Result<(BatchId, Vec<u8>), UploadError> {
        let Self { workflow, key, accepted, left_out, mut noted } = self;
        let (appliance, upload) = (noted.appliance, noted.upload);
        let id = upload.id;
        let kept = appliance.workflows.current(&workflow.name).ok_or(UploadError::Workflow)?;
        let fingerprint = once::fingerprint(appliance, &accepted.sha256, &meta.context);
        let mut context = meta.context;
        context.insert("request".to_owned(), meta.request);
        let origin = meta.key.as_ref().map(|held| {
            let UploadKey { client, path, hash } = &held.key;
            idempotency::origin_of_upload(&appliance.identity, *client, path, hash, &accepted.sha256)
        });
        let details = BatchDetails {
            file_name: meta.file_name,
            file_sha256: hex(&accepted.sha256),
            header: accepted.header,
            context: Value::Object(context),
            origin,
        };
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
            file_digest: file_digest(appliance, meta.client, &accepted.sha256),
            rows: saturated(accepted.rows),
            skipped: saturated(accepted.skipped),
            skipped_bytes: left_out.bytes,
        };
        let (rows, skipped, bytes) = (new.rows, new.skipped, new.file_bytes);
        // Dropped after the commit: until then nobody else may use the key.
        let held = meta.key;
        let last_look = LastLook {
            duplicate_window: (!meta.allow_duplicate).then_some(workflow.duplicate_window),
            once: held.as_ref().map(|held| held.key.clone()),
            limits: appliance.config.quotas,
            more: amounts(Stored {
                file_bytes: bytes,
                rows: rows.into(),
                kept_bytes: new.kept_bytes(),
                saved_bytes: 0,
            }),
        };
        if !left_out.is_empty() {
            // What is refused in any case is refused before anything of it comes into the database.
            let late = appliance.store.read(|connection| last_look.at(connection, &new, appliance.clock.now()))?;
            late.map_or(Ok(()), |late| Err(UploadError::from(late)))?;
            left_out.write(appliance, upload)?;
        }
        crash_point("upload.stored");
        let created = appliance.store.write(move |tx| {
            if !may(tx)? {
                return Ok(Err(Late::Revoked));
            }
            if let Some(late) = last_look.at(tx.connection, &new, tx.now)? {
                return Ok(Err(late));
            }
            let answer = told(batches::create(tx, upload, &new)?);
            if let Some(once) = &last_look.once {
                let sealed = key.seal(Place::batch(Purpose::Answer, id), &answer);
                let what = Remembered { batch: upload.batch, fingerprint, answer: sealed };
                upload_keys::remember(tx, once, &what, tx.now.after(once::REMEMBERED_FOR))?;
            }
            Ok(Ok(answer))
        })?;
        let answer = created.map_err(UploadError::from)?;
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rows are limited to what fits; the column says so again.
fn saturated(rows: u64) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}
