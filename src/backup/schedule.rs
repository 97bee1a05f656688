//! Backups that the server takes by itself, beside its work, and how long they stay.
//!
//! One is due when the last whole one is `backup.every` old, by the table `backups`, so that neither a restart nor a
//! failure moves the schedule. What fails is told, its remains are removed, and it is tried again under a new name.

use std::time::{Duration, Instant};

use super::{
    BackupError, Place, ScheduledName,
    manifest::Manifest,
    shelf::{Entry, Shelf},
    take,
};
use crate::{
    appliance::Appliance,
    config,
    model::Timestamp,
    store::{
        StoreError,
        audit::{self, Deed},
        backups,
    },
};

/// How often it is looked whether one is due, or old.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked for what is old besides: a bucket is asked for its names then.
const SWEEP_EVERY: Duration = Duration::from_secs(10 * 60);
/// The wait after a failure: doubled with each one that follows, and never longer than `backup.every`.
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 60);
/// No backup takes longer, however large and wherever it goes: behind that the thread hangs.
const LONGEST_BACKUP: Duration = Duration::from_secs(24 * 60 * 60);
/// How much the thread stands behind those that dispatch, as nice(1) says it: hashing and checking a large database take
/// a processor for seconds.
const NICE: i32 = 10;
/// Who does it, in the audit.
const WHO: &str = "schedule";
const ORIGIN: &str = "server";

/// Takes backups and removes old ones, until the appliance closes.
pub fn watch(appliance: &Appliance, runtime: &tokio::runtime::Handle) {
    let Some(every) = appliance.config.backup.every else { return };
    // Of this thread alone: Linux keeps it by thread. Where it is refused, all threads are alike.
    let _ = rustix::process::setpriority_process(None, NICE);
    let shelf = match Shelf::open(&appliance.config, runtime) {
        Ok(shelf) => shelf,
        Err(error) => {
            tracing::error!(event = "backup.failed", %error, "backup failed");
            return;
        }
    };
    let mark = ScheduledName::mark_of(&appliance.identity);
    let mut schedule = Schedule { appliance, runtime, shelf, mark, every, swept: None };
    appliance.hearts.register("backup", LONGEST_BACKUP).settle_in();
    let mut failures = 0;
    loop {
        failures = if schedule.look() { 0 } else { failures + 1 };
        if appliance.closing.wait(schedule.pause(failures)) {
            return;
        }
    }
}

/// A schedule, and what it works with.
pub(super) struct Schedule<'a> {
    pub(super) appliance: &'a Appliance,
    runtime: &'a tokio::runtime::Handle,
    pub(super) shelf: Shelf,
    /// What names of this appliance's backups end in.
    pub(super) mark: String,
    every: Duration,
    /// When it was last looked for what is old, and when the next one will be.
    swept: Option<(Instant, Option<Timestamp>)>,
}

impl Schedule<'_> {
    /// Whether all went well.
    fn look(&mut self) -> bool {
        let went_well = match self.is_due() {
            Ok(true) => {
                // What is behind this one may go.
                self.swept = None;
                self.take()
            }
            Ok(false) => true,
            Err(error) => {
                tracing::error!(event = "backup.due_unknown", %error, "it cannot be told whether a backup is due");
                false
            }
        };
        self.let_go() && went_well
    }

    /// Removes what is old, if it is time to look; whether that went well.
    fn let_go(&mut self) -> bool {
        let now = self.appliance.clock.now();
        let rests =
            |(at, next): (Instant, Option<Timestamp>)| at.elapsed() < SWEEP_EVERY && next.is_none_or(|next| now < next);
        if self.swept.is_some_and(rests) {
            return true;
        }
        match self.sweep() {
            Ok(swept) => {
                self.swept = Some((Instant::now(), swept.next));
                if swept.removed > 0 {
                    tracing::info!(event = "backup.removed", backups = swept.removed, place = %self.shelf, "old backups removed");
                }
                true
            }
            Err(BackupError::Ended) => true,
            Err(error) => {
                tracing::warn!(event = "backup.not_removed", %error, "old backups could not be removed; it is tried again by itself");
                false
            }
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_WAIT);
        self.every.min(if failures == 0 { LOOK_EVERY } else { doubled })
    }

    fn is_due(&self) -> Result<bool, StoreError> {
        let (last, now) = (self.appliance.store.read(backups::last_scheduled)?, self.appliance.clock.now());
        // One that lies in the future says that the clock was set back, and nothing of how old it is.
        Ok(last.is_none_or(|last| last > now || last.after(self.every) <= now))
    }

    fn take(&self) -> bool {
        let name = ScheduledName::new(self.appliance.clock.now(), &self.mark).to_string();
        let begun = Instant::now();
        let taken = self.take_as(&name);
        match &taken {
            Ok(_) => self.appliance.metrics.backups.ended("taken"),
            Err(BackupError::Ended) => self.appliance.metrics.backups.ended("broken_off"),
            Err(BackupError::UnderWay) => {}
            Err(_) => self.appliance.metrics.backups.ended("failed"),
        }
        let duration_ms = begun.elapsed().as_millis() as u64;
        match taken {
            Ok(manifest) => {
                let (bytes, files) = (manifest.bytes(), manifest.files());
                tracing::info!(event = "backup.taken", backup = %name, place = %self.shelf, bytes, files, duration_ms, "backup taken");
                true
            }
            Err(BackupError::UnderWay) => {
                tracing::debug!(event = "backup.waits", "a backup is due, and waits for one that is being taken");
                true
            }
            Err(BackupError::Ended) => {
                tracing::info!(event = "backup.broken_off", backup = %name, duration_ms, "backup broken off, because the server ends");
                false
            }
            Err(error) => {
                tracing::error!(event = "backup.failed", backup = %name, place = %self.shelf, duration_ms, %error, "backup failed");
                false
            }
        }
    }

    fn take_as(&self, name: &str) -> Result<Manifest, BackupError> {
        let place = self.shelf.place(name);
        let opened = Place::open_new(&place, &self.appliance.config, self.runtime)?;
        let taken = self.take_into(name, &opened);
        if taken.is_err() {
            // What it left stands in nobody's way; where it cannot be removed now, the sweep does it later.
            if let Err(error) = self.shelf.remove(name) {
                tracing::debug!(event = "backup.remains", %error, "what a failed backup left is still there");
            }
        }
        let manifest = taken?;
        let deed = Deed { target: Some(place.to_string()), ..self.deed("backup.take") };
        self.appliance.store.write(move |tx| audit::note(tx, &deed))?;
        Ok(manifest)
    }

    fn take_into(&self, name: &str, place: &Place) -> Result<Manifest, BackupError> {
        let config = &self.appliance.config;
        let previous = match &self.shelf {
            Shelf::Folder(folder) => self.last_whole()?.map(|name| folder.join(name)),
            Shelf::Bucket(_) => None,
        };
        let ring = self.appliance.ring();
        let source = take::Source {
            store: &self.appliance.store,
            objects: &self.appliance.objects,
            in_bucket: matches!(config.objects, config::Objects::Minio(_)),
            data_dir: &config.storage.data_dir,
            name: Some(name.to_owned()),
            previous,
            ring: &ring,
            closing: &self.appliance.closing,
        };
        take::take(&source, place)
    }

    fn last_whole(&self) -> Result<Option<String>, BackupError> {
        let mine =
            |entry: &Entry| entry.is_whole && entry.scheduled.as_ref().is_some_and(|name| name.mark == self.mark);
        Ok(self.shelf.entries()?.into_iter().rfind(mine).map(|entry| entry.name))
    }

    pub(super) fn deed(&self, action: &'static str) -> Deed {
        Deed { who: WHO.to_owned(), origin: ORIGIN.to_owned(), action, target: None, why: None }
    }
}
