//! Extraction: the stored file of a batch becomes rows in the work table.
//!
//! One thread reads, unseals and parses; rayon seals; the writer inserts. Each hands over whole chunks of a bounded
//! number of rows and bytes through a bounded queue, so memory stays the same whatever the file, and a transaction never waits
//! for the file or the network: its chunk is complete before it begins. Measured on two cores, where the writer is what
//! takes longest, sealing by rayon was as fast as sealing in the thread that parses (0.98 of its time, four pairs); on
//! more cores sealing is spread over all of them.

mod chunks;
mod earlier;
pub mod runner;

use std::{sync::Arc, time::Duration};

use chunks::{Chunk, SealedChunks, SkippedLines};

use crate::{
    appliance::Appliance,
    crash_point::crash_point,
    crypto::{OpeningReader, Place, Purpose, is_damaged},
    intake::records::RecordError,
    model::ClaimOwner,
    objects::ObjectError,
    room::NoRoom,
    store::{Held, StoreError, Tx, batches::Batch, extraction},
    work::open_batch::OpenBatchError,
};

/// How long a batch waits whose file or database is out of reach.
const RETRY_AFTER: Duration = Duration::from_secs(15);
/// An ending that the database does not take is written again after this pause.
const NOTE_AGAIN: Duration = Duration::from_secs(1);

/// How an extraction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extracted {
    /// Every row is in the work table; the batch is `queued`.
    Queued,
    /// The batch was cancelled, or its claim taken over; nothing more was written.
    Stopped,
    /// Something stands in the way for the moment; the batch is `pending` and will be tried again.
    Later(String),
    /// It can never succeed; the batch is `failed`.
    Failed(String),
}

impl Extracted {
    /// The end in a word.
    fn as_str(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Stopped => "stopped",
            Self::Later(_) => "later",
            Self::Failed(_) => "failed",
        }
    }
}

/// What stands in the way of an extraction.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Objects(#[from] ObjectError),
    /// It is shown to the batch's client, whose business it is not how full the disk is.
    #[error("there is no room for its rows on the disk")]
    Room(#[source] NoRoom),
    #[error("{0}")]
    Batch(#[from] OpenBatchError),
    #[error("the stored file is damaged; upload it again")]
    Damaged,
    #[error("the stored file could not be read: {0}")]
    Read(std::io::Error),
    #[error("a part of the file could not be sealed; the log says why")]
    Sealing,
    #[error("the stored file is damaged: it has {found} rows and should have {expected}; upload it again")]
    Rows { found: u32, expected: u32 },
}

impl Obstacle {
    /// Whether it may go away by itself.
    fn is_transient(&self) -> bool {
        match self {
            Self::Store(_) | Self::Room(_) | Self::Read(_) | Self::Sealing => true,
            // Credentials, policies and file systems are mended by a person, and then the file is still there.
            Self::Objects(error) => !matches!(error, ObjectError::NotFound { .. } | ObjectError::BadName),
            Self::Batch(OpenBatchError::Store(_) | OpenBatchError::Workflow(_)) => true,
            Self::Batch(_) | Self::Damaged | Self::Rows { .. } => false,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Store(error) | Self::Batch(OpenBatchError::Store(error)) => match error.cause() {
                StoreError::DiskFull => "disk_full",
                _ if error.is_passing() => "unavailable",
                _ => "internal",
            },
            Self::Room(_) => "disk_full",
            Self::Batch(_) => "undecryptable",
            Self::Damaged | Self::Rows { .. } => "damaged_file",
            Self::Objects(_) | Self::Read(_) => "file_unreachable",
            Self::Sealing => "internal",
        }
    }

    /// For a person who looks at the batch.
    fn message(&self) -> String {
        if self.is_transient() { format!("{self}; it is tried again by itself") } else { self.to_string() }
    }
}

impl From<RecordError> for Obstacle {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Read(error) => error.into(),
            // It was well-formed when it came.
            _ => Self::Damaged,
        }
    }
}

impl From<std::io::Error> for Obstacle {
    fn from(error: std::io::Error) -> Self {
        if is_damaged(&error) { Self::Damaged } else { Self::Read(error) }
    }
}

/// Extracts a batch that this process has claimed, from where an earlier extraction stopped.
pub fn extract(appliance: &Arc<Appliance>, batch: &Batch) -> Result<Extracted, StoreError> {
    let owner = appliance.owner;
    let key = batch.batch;
    let ended = match write_all(appliance, batch) {
        Ok(Held::No) => Extracted::Stopped,
        Ok(Held::Yes) => match note(appliance, move |tx| extraction::finish(tx, key, owner))? {
            Held::Yes => Extracted::Queued,
            Held::No => Extracted::Stopped,
        },
        Err(obstacle) if obstacle.is_transient() => {
            release(appliance, key, owner, RETRY_AFTER, Some(&obstacle))?;
            return Ok(Extracted::Later(obstacle.to_string()));
        }
        Err(obstacle) => {
            let (code, message) = (obstacle.code(), obstacle.message());
            let kept = message.clone();
            note(appliance, move |tx| extraction::fail(tx, key, owner, code, &kept))?;
            Extracted::Failed(message)
        }
    };
    if ended == Extracted::Stopped {
        // A cancelled batch ends with this; a claim that was taken over is not ours to release, and stays.
        release(appliance, key, owner, Duration::ZERO, None)?;
    }
    Ok(ended)
}

fn release(
    appliance: &Appliance,
    batch: i64,
    owner: ClaimOwner,
    wait: Duration,
    obstacle: Option<&Obstacle>,
) -> Result<(), StoreError> {
    let next = appliance.clock.now().after(wait);
    let reason = obstacle.map(|obstacle| (obstacle.code(), obstacle.message()));
    note(appliance, move |tx| {
        let reason = reason.as_ref().map(|(code, message)| (*code, message.as_str()));
        extraction::release(tx, batch, owner, next, reason)
    })?;
    Ok(())
}

/// Writes down how an extraction ended. A database that is busy or full for a while is asked until it takes it: nobody
/// else could go on with the batch before.
fn note<T: Send + 'static>(
    appliance: &Appliance,
    ending: impl Fn(&Tx<'_>) -> Result<T, StoreError> + Clone + Send + 'static,
) -> Result<T, StoreError> {
    loop {
        match appliance.store.write(ending.clone()) {
            Err(error) if error.is_passing() && !appliance.closing.wait(NOTE_AGAIN) => {
                tracing::warn!(
                    event = "extraction.not_noted",
                    %error,
                    "how an extraction ended could not be noted; trying again"
                );
            }
            noted => return noted,
        }
    }
}

fn write_all(appliance: &Arc<Appliance>, batch: &Batch) -> Result<Held, Obstacle> {
    crash_point("extract.claimed");
    let open = appliance.open_batch(batch.batch, batch.workflow_version)?;
    let file = appliance.objects.open(&batch.object)?;
    let plain = OpeningReader::new(file, &open.key, Place::batch(Purpose::File, open.id))?;
    let skipped = SkippedLines::of(appliance.clone(), batch.batch)?;
    let mut written = batch.extracted;
    for chunk in SealedChunks::start(Box::new(plain), skipped, open, batch.extracted)? {
        let Chunk { first_number, rows } = chunk?;
        // What was enough at the beginning may have gone to others since.
        appliance.room.for_a_piece().map_err(Obstacle::Room)?;
        let (count, bytes) = (rows.len(), rows.iter().map(|row| row.data.len()).sum());
        written += count as u32;
        let (key, owner) = (batch.batch, appliance.owner);
        let expires_at = appliance.clock.now().after(appliance.config.workers.claim_ttl);
        let held =
            appliance.store.write(move |tx| extraction::write_rows(tx, key, owner, expires_at, first_number, &rows))?;
        if held == Held::Yes {
            appliance.metrics.extraction.wrote(count, bytes);
        }
        if held == Held::No || appliance.closing.is_closed() {
            return Ok(Held::No);
        }
        crash_point(if written < batch.counts.total { "extract.between_chunks" } else { "extract.written" });
    }
    if written == batch.counts.total {
        Ok(Held::Yes)
    } else {
        Err(Obstacle::Rows { found: written, expected: batch.counts.total })
    }
}
