//! Restoring a backup into a data folder that has no database.
//!
//! Everything is brought into a folder of its own first and checked there: hashes, SQLite's own check, the keys. Only
//! then the stored files are moved to their place, and last of all the database, which is what makes the folder one that
//! a server can serve. A restore that dies before leaves no database, and the next one clears away what it left.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    BackupError, DATABASE, OBJECTS, Place, at, gone, hashing,
    manifest::{Manifest, Part, StoredFiles},
    old::{self, Since},
    place::{remove_folder, remove_if_there},
    revived::Revived,
    risk::{self, BatchAtRisk},
};
use crate::{
    clock::Clock,
    config::{self, Config},
    crash_point::crash_point,
    crypto::KeyRing,
    keys,
    model::{BatchId, Timestamp},
    objects::{ObjectError, Objects},
    store::{
        Store,
        audit::{self, Deed},
        backups::{self, Copy},
        ended, restored,
        stuck::{self, Lost},
    },
};

/// Where it is brought together, in the data folder.
const STAGING: &str = "restoring";
/// In there, once what has been checked is being moved to its place.
const PLACING: &str = "placing";
/// Who pauses dispatch.
const BY: &str = "restore";

/// What was restored, and what has to be known before dispatch is resumed.
#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    /// The moment whose state it is.
    pub taken_at: Timestamp,
    /// Stored files that came with it.
    pub files: usize,
    /// Claims of the old installation that were freed.
    pub freed_rows: usize,
    /// What was ended since the backup, as far as the old data folder was at hand.
    pub revived: Revived,
    /// Whether it was ended here too.
    pub ended: bool,
    /// Batches that were deleted since, and are deleted here too.
    pub deleted: Vec<BatchId>,
    /// Whether it could be told which those are: by the old data folder, or by the lists beside the backup.
    pub deletions_known: bool,
    /// Why dispatch is paused.
    pub paused: String,
    /// The batches whose rows may have been called since the backup was taken.
    pub may_have_been_called: Vec<BatchAtRisk>,
}

/// Everything that a restore works with.
pub struct Target<'a> {
    /// The configuration: where the data folder is, and the bucket.
    pub config: &'a Config,
    /// The keys, which have to open it.
    pub ring: &'a KeyRing,
    /// What time it is.
    pub clock: &'a Clock,
    /// What the bucket is reached through.
    pub runtime: &'a tokio::runtime::Handle,
    /// What the audit says of it.
    pub deed: Deed,
    /// The data folder of before, where it is at hand: what was deleted there since is deleted here too.
    pub old: Option<&'a Path>,
    /// Whether to end what was ended there since.
    pub ends: &'a dyn Fn(&Revived) -> Result<bool, BackupError>,
}

/// Restores the backup. The caller holds the lock of the data folder: no server runs on it.
pub fn restore(place: &Place, target: Target<'_>) -> Result<Restored, BackupError> {
    let data_dir = target.config.storage.data_dir.clone();
    let manifest = Manifest::read(place)?;
    // Before a byte of it is looked at by anything but a hash.
    manifest.check_seal(target.ring)?;
    target.old.map_or(Ok(()), old::must_be_data_folder)?;
    clear_interrupted(&data_dir)?;
    must_be_free(&data_dir)?;
    let restored = bring_back(place, &manifest, &target);
    // However it ended, what it did not put in place goes.
    if let Err(error) = clear_interrupted(&data_dir) {
        tracing::warn!(
            event = "restore.not_cleared",
            %error,
            "a restore could not clear away what it made in the data folder; another one begins with that"
        );
    }
    restored
}

/// Restores it into a data folder where nothing is in its way. What it made there besides is left to the caller.
fn bring_back(place: &Place, manifest: &Manifest, target: &Target<'_>) -> Result<Restored, BackupError> {
    let data_dir = &target.config.storage.data_dir;
    let staging = data_dir.join(STAGING);
    fs::DirBuilder::new().mode(0o700).create(&staging).map_err(at(&staging))?;
    let database = staging.join(DATABASE);
    bring_database(place, &manifest.database, &database)?;
    crash_point("restore.database_staged");
    let freed_rows = check_and_prepare(&staging, manifest, target)?;
    let mut since = match target.old {
        Some(old) => old::carry_over(&staging, old, manifest, target)?,
        None => Since::default(),
    };
    let listed = delete_listed(&staging, place, target)?;
    let deletions_known = target.old.is_some() || listed.is_some();
    since.deleted.extend(listed.unwrap_or_default());
    let may_have_been_called = {
        let store = Store::open(&staging, target.config.database, target.clock.clone())?;
        risk::find(&store, manifest.taken_at, target.clock.now())?
    };
    backups::fold(&database)?;
    bring_files(place, manifest, target, &staging)?;
    crash_point("restore.files_staged");
    put_in_place(&staging, data_dir)?;
    Ok(Restored {
        taken_at: manifest.taken_at,
        files: manifest.files(),
        freed_rows,
        revived: since.revived,
        ended: since.ended,
        deleted: since.deleted,
        deletions_known,
        paused: reason(manifest.taken_at),
        may_have_been_called,
    })
}

fn reason(taken_at: Timestamp) -> String {
    format!("restored from the backup of {taken_at}: see which rows may have been called since")
}

/// What a restore leaves that does not come to its end. Stored files that it has moved to their place are its own: nothing else
/// was there.
fn clear_interrupted(data_dir: &Path) -> Result<(), BackupError> {
    let (staging, database) = (data_dir.join(STAGING), data_dir.join(DATABASE));
    if staging.join(PLACING).exists() && !database.try_exists().map_err(at(&database))? {
        let objects = data_dir.join(OBJECTS);
        remove_if_there(fs::remove_dir_all(&objects), &objects)?;
    }
    remove_folder(&staging)
}

fn must_be_free(data_dir: &Path) -> Result<(), BackupError> {
    // A WAL that lies about would be read into the database that comes to lie beside it.
    let files: [PathBuf; 4] = backups::database_files(data_dir);
    if let Some(there) = files.into_iter().find(|path| path.exists()) {
        return Err(BackupError::Occupied(there));
    }
    let objects = data_dir.join(OBJECTS);
    let has_files = match fs::read_dir(&objects) {
        Ok(mut entries) => entries.any(|entry| entry.is_ok_and(|entry| entry.path().is_file())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(BackupError::File(objects, error)),
    };
    if has_files { Err(BackupError::Occupied(objects)) } else { Ok(()) }
}

fn bring_database(place: &Place, part: &Part, to: &Path) -> Result<(), BackupError> {
    let mut writer = fs::File::options().write(true).create_new(true).open(to).map_err(at(to))?;
    bring(place, part, &mut writer)?;
    writer.sync_all().map_err(at(to))?;
    let faults = Copy::open(to)?.faults()?;
    faults.into_iter().next().map_or(Ok(()), |fault| Err(BackupError::Unsound(fault)))
}

fn bring(place: &Place, part: &Part, to: &mut impl io::Write) -> Result<(), BackupError> {
    let mut reader = place.open(&part.name)?;
    let (bytes, sha256) = hashing::copy(&mut reader, to).map_err(ObjectError::from)?;
    if (bytes, &sha256) == (part.bytes, &part.sha256) { Ok(()) } else { Err(BackupError::Damaged(part.name.clone())) }
}

/// Opens the database with the keys, and makes it one that nobody works with until a person has looked.
fn check_and_prepare(staging: &Path, manifest: &Manifest, target: &Target<'_>) -> Result<usize, BackupError> {
    let store = Store::open(staging, target.config.database, target.clock.clone())?;
    keys::unlock(&store, target.ring)?;
    let mut freed_rows = 0;
    for owner in store.read(restored::owners)? {
        store.write(move |tx| stuck::free_batches(tx, Lost::OfOwner(owner)))?;
        loop {
            let freed = store.write(move |tx| stuck::free_rows(tx, Lost::OfOwner(owner)))?.len();
            freed_rows += freed;
            if freed < stuck::FREED_AT_ONCE as usize {
                break;
            }
        }
    }
    let (reason, deed) = (reason(manifest.taken_at), target.deed.clone());
    let dependencies: Vec<String> = target.config.dependencies.keys().cloned().collect();
    store.write(move |tx| {
        restored::settle_in(tx, BY, &reason, &dependencies)?;
        audit::note(tx, &deed)
    })?;
    Ok(freed_rows)
}

/// Deletes what was deleted since, by the lists that lie beside the backup; `None` where there are none.
fn delete_listed(staging: &Path, place: &Place, target: &Target<'_>) -> Result<Option<Vec<BatchId>>, BackupError> {
    let store = Store::open(staging, target.config.database, target.clock.clone())?;
    let identity = keys::unlock(&store, target.ring)?;
    let Some(gone) = gone::read(place, &identity, target.config, target.runtime)? else { return Ok(None) };
    let kept = target.config.backup.copies_kept();
    let deleted = store.write(move |tx| {
        let mut deleted = Vec::new();
        for gone in gone {
            if ended::delete(tx, gone.id, kept)? {
                deleted.push(gone.id);
            }
        }
        Ok(deleted)
    })?;
    Ok(Some(deleted))
}

/// The stored files: into the staging folder, or straight into the bucket, where each has its own name.
fn bring_files(place: &Place, manifest: &Manifest, target: &Target<'_>, staging: &Path) -> Result<(), BackupError> {
    let objects = match (&target.config.objects, &manifest.stored_files) {
        (config::Objects::Local, StoredFiles::InBucket(bucket)) => return Err(BackupError::Bucket(bucket.clone())),
        (config::Objects::Minio(_), StoredFiles::InBucket(_)) => return Ok(()),
        (config::Objects::Local, StoredFiles::InBackup(_)) => Objects::local(staging.join(OBJECTS))?,
        (config::Objects::Minio(settings), StoredFiles::InBackup(_)) => {
            let objects = Objects::minio(settings, target.runtime.clone())?;
            objects.check()?;
            objects
        }
    };
    let StoredFiles::InBackup(parts) = &manifest.stored_files else { return Ok(()) };
    for part in parts {
        let name = part.name.strip_prefix(OBJECTS).and_then(|name| name.strip_prefix('/'));
        let name = name.ok_or_else(|| BackupError::Damaged(part.name.clone()))?;
        let mut writer = objects.create(name)?;
        bring(place, part, &mut writer)?;
        writer.finish()?;
    }
    Ok(())
}

fn put_in_place(staging: &Path, data_dir: &Path) -> Result<(), BackupError> {
    let sync = |folder: &Path| fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder));
    let (mark, files) = (staging.join(PLACING), staging.join(OBJECTS));
    fs::write(&mark, b"").map_err(at(&mark))?;
    sync(staging)?;
    let objects = data_dir.join(OBJECTS);
    if files.exists() {
        // There are no files in it: that was looked at.
        remove_if_there(fs::remove_dir_all(&objects), &objects)?;
        fs::rename(&files, &objects).map_err(at(&objects))?;
        sync(data_dir)?;
    }
    crash_point("restore.files_placed");
    // A link fails where a rename would replace what somebody has made meanwhile.
    let (from, to) = (staging.join(DATABASE), data_dir.join(DATABASE));
    fs::hard_link(&from, &to).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Occupied(to.clone()),
        _ => BackupError::File(to.clone(), error),
    })?;
    sync(data_dir)
}
