//! When the WAL goes back into the database's file, and how it is kept from growing without end.
//!
//! SQLite's own `wal_autocheckpoint` tries at each commit and gives up on the first reader in the way. Here the writer
//! does it between two transactions, when everybody has their answer: at every [`STEP_FRAMES`] without waiting for
//! anybody, which is enough wherever reads leave gaps; and behind the limit, `database.wal_limit`, while the [`Gate`]
//! holds new reads back for an instant. Only a reader in another process (a backup is one too, although it is in this
//! one) can then still hold the WAL: it is tried again, and said.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::{
    connection::{DatabaseSettings, PAGE_BYTES},
    error::Result,
    gate::Gate,
    sizes, upkeep,
};
use crate::model::Timestamp;

/// A page in the WAL, with what stands in front of it.
const FRAME_BYTES: u64 = PAGE_BYTES.0 as u64 + 24;
/// Frames between two checkpoints that wait for nobody: 32 MiB.
const STEP_FRAMES: u32 = 8_000;
/// On a disk with less room than the WAL may take [`LOW_TIMES`] over, both are much smaller: 1 and 4 MiB.
const LOW_TIMES: u64 = 2;
const LOW_STEP_FRAMES: u32 = 256;
const LOW_LIMIT_FRAMES: u32 = 1_024;
/// How long the writer stands still for reads under way to end.
const READERS_PATIENCE: Duration = Duration::from_millis(100);
/// After a try in vain, and behind so much more, it is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// A WAL that is held for so long is told, and told again.
const TOLD_AFTER: Duration = Duration::from_secs(10);
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What the last checkpoint came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointOutcome {
    /// Everything is back in the file: the WAL begins again at its front as soon as nobody reads from it.
    Whole,
    /// A part stays for readers that began before it.
    Part,
    /// Everything is back, and the WAL is cut to nothing.
    Cut,
    /// It is larger than it may be, and somebody reads from it all the time.
    Held,
    /// The disk or the database did not let it; the log says why.
    Failed,
}

/// How the WAL is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalState {
    /// Pages in it, as of the last commit of this process.
    pub frames: u32,
    /// What the last checkpoint of this process came to, and when.
    pub last_checkpoint: Option<(CheckpointOutcome, Timestamp)>,
    /// Since when it is larger than `database.wal_limit`, and cannot be cut.
    pub held_since: Option<Timestamp>,
}

impl WalState {
    /// Bytes of the WAL that are in use.
    pub fn bytes(&self) -> u64 {
        u64::from(self.frames) * FRAME_BYTES
    }
}

/// What the writer, and whoever asks for the state, share.
#[derive(Default)]
pub(super) struct Wal {
    pub(super) gate: Gate,
    frames: AtomicU32,
    state: Mutex<WalState>,
}

impl Wal {
    pub(super) fn state(&self) -> WalState {
        let state = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        WalState { frames: self.frames.load(Ordering::Relaxed), ..state }
    }

    /// Counts frames at each commit of this connection, in place of SQLite's own checkpoints.
    pub(super) fn watch(self: &Arc<Self>, connection: &mut Connection) -> Result<()> {
        let wal = self.clone();
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, frames: std::ffi::c_int| {
            wal.frames.store(frames.unsigned_abs(), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(())
    }

    /// Cuts the WAL to nothing, with readers held back for an instant; whether that could be done.
    pub(super) fn cut(&self, connection: &Connection, busy_timeout: Duration) -> Result<bool> {
        let cut = self.gate.while_empty(READERS_PATIENCE, || upkeep::truncate_wal(connection, busy_timeout))?;
        if cut {
            self.frames.store(0, Ordering::Relaxed);
        }
        Ok(cut)
    }
}

/// The writer's part.
pub(super) struct Checkpointer {
    wal: Arc<Wal>,
    data_dir: PathBuf,
    busy_timeout: Duration,
    limit_bytes: u64,
    /// Frames at the last checkpoint, of a WAL that did not begin again since.
    last: u32,
    held: Option<Held>,
}

/// A WAL that could not be cut.
struct Held {
    since: Instant,
    since_at: Timestamp,
    tried: Instant,
    told: Option<Instant>,
}

impl Checkpointer {
    pub(super) fn new(wal: Arc<Wal>, data_dir: &Path, settings: DatabaseSettings) -> Self {
        let (data_dir, limit_bytes) = (data_dir.to_owned(), settings.wal_limit);
        Self { wal, data_dir, busy_timeout: settings.busy_timeout, limit_bytes, last: 0, held: None }
    }

    /// Frames between two checkpoints, and those behind which the WAL has to be cut.
    fn bounds(&self) -> (u32, u32) {
        let limit = u32::try_from(self.limit_bytes / FRAME_BYTES).unwrap_or(u32::MAX).max(1);
        let step = STEP_FRAMES.min(limit.div_ceil(2));
        if self.is_low() { (step.min(LOW_STEP_FRAMES), limit.min(LOW_LIMIT_FRAMES)) } else { (step, limit) }
    }

    fn is_low(&self) -> bool {
        let free = sizes::of(&self.data_dir).disk_free_bytes;
        free.is_some_and(|free| free < self.limit_bytes.saturating_mul(LOW_TIMES))
    }

    /// How long the writer may sleep without looking at the WAL; `None`: for ever.
    pub(super) fn next_look(&self) -> Option<Duration> {
        self.held.as_ref().map(|held| TRY_AGAIN.saturating_sub(held.tried.elapsed()))
    }

    /// Does what is due, between two transactions.
    pub(super) fn look(&mut self, connection: &Connection, now: Timestamp) {
        let frames = self.wal.frames.load(Ordering::Relaxed);
        if frames < self.last {
            // It began again at its front.
            self.last = 0;
        }
        if frames < self.last.saturating_add(LOW_STEP_FRAMES) && self.held.is_none() {
            return;
        }
        let (step, limit) = self.bounds();
        let outcome = if frames > limit {
            if self.next_look().is_some_and(|wait| !wait.is_zero()) {
                return;
            }
            self.last = frames;
            self.cut(connection)
        } else if frames >= self.last.saturating_add(step) {
            self.last = frames;
            upkeep::checkpoint(connection).map(|whole| match whole {
                true => CheckpointOutcome::Whole,
                false => CheckpointOutcome::Part,
            })
        } else {
            self.let_go();
            return;
        };
        let outcome = outcome.unwrap_or_else(|error| {
            tracing::error!(
                event = "wal.not_put_back",
                %error,
                "the write-ahead log could not be put back into the database; it is tried again"
            );
            CheckpointOutcome::Failed
        });
        if frames > limit && outcome != CheckpointOutcome::Cut {
            self.hold(now);
        } else {
            self.let_go();
        }
        let mut state = self.wal.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last_checkpoint = Some((outcome, now));
        state.held_since = self.held.as_ref().map(|held| held.since_at);
    }

    /// Behind a transaction that failed: on a full disk what the WAL holds twice is room for the next one.
    pub(super) fn make_room(&mut self, connection: &Connection) {
        if self.wal.frames.load(Ordering::Relaxed) > 0
            && self.is_low()
            && let Err(error) = self.cut(connection)
        {
            tracing::warn!(event = "wal.not_cut", %error, "the write-ahead log could not be cut to make room");
        }
    }

    fn cut(&mut self, connection: &Connection) -> Result<CheckpointOutcome> {
        let cut = self.wal.cut(connection, self.busy_timeout)?;
        Ok(if cut { CheckpointOutcome::Cut } else { CheckpointOutcome::Held })
    }

    fn hold(&mut self, now: Timestamp) {
        let instant = Instant::now();
        let held = self.held.get_or_insert(Held { since: instant, since_at: now, tried: instant, told: None });
        held.tried = instant;
        let is_due = held.told.map_or(held.since.elapsed() >= TOLD_AFTER, |told| told.elapsed() >= TOLD_EVERY);
        if is_due {
            held.told = Some(instant);
            let bytes = self.wal.state().bytes();
            tracing::warn!(
                event = "wal.too_large",
                wal_bytes = bytes,
                held_seconds = held.since.elapsed().as_secs(),
                "the write-ahead log is larger than database.wal_limit and cannot be cut: a backup that is being taken, \
                 a command, or a process that hangs reads from it"
            );
        }
    }

    /// It is no longer larger than it may be.
    fn let_go(&mut self) {
        let Some(held) = self.held.take() else { return };
        if held.told.is_some() {
            tracing::info!(
                event = "wal.in_bounds",
                held_seconds = held.since.elapsed().as_secs(),
                "the write-ahead log is in its bounds again"
            );
        }
        self.wal.state.lock().unwrap_or_else(PoisonError::into_inner).held_since = None;
    }
}
