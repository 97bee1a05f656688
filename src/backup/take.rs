//! Taking a backup, beside a server that goes on working.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use super::{
    BackupError, DATABASE, MANIFEST, OBJECTS, Place, at, hashing,
    manifest::{Manifest, Part, StoredFiles},
    place::remove_if_there,
};
use crate::{
    crash_point::crash_point,
    model::Timestamp,
    objects::{ObjectError, Objects},
    store::{
        Store,
        backups::{self, Copy},
    },
};

/// Stored files that are looked up at a time.
const FILES_AT_ONCE: u32 = 1_000;
/// Held as long as a backup is being taken.
const LOCK_FILE: &str = "backup.lock";
/// Where the copy is made, in the data folder, that goes on to a bucket.
const STAGING: &str = "backing-up";

/// What is to be backed up, and where its stored files are.
pub struct Source<'a> {
    /// The database.
    pub store: &'a Store,
    /// The stored files.
    pub objects: &'a Objects,
    /// Whether they are in a bucket, and so not copied.
    pub in_bucket: bool,
    /// The data folder.
    pub data_dir: &'a Path,
}

/// Takes a backup and checks it.
///
/// The database comes first: each batch's file was stored before the batch was there, so every file that the copy speaks
/// of can still be copied after it. Only a deletion takes one away, and then nobody needs it any more.
pub fn take(source: &Source<'_>, place: &Place) -> Result<Manifest, BackupError> {
    let _lock = lock(source.data_dir)?;
    let shown = place.to_string();
    let (backup, taken_at) =
        source.store.write(move |tx| Ok::<_, crate::store::StoreError>((backups::begin(tx, &shown)?, tx.now)))?;
    let manifest = copy_all(source, place, taken_at)?;
    source.store.write(move |tx| backups::finish(tx, backup))?;
    Ok(manifest)
}

fn copy_all(source: &Source<'_>, place: &Place, taken_at: Timestamp) -> Result<Manifest, BackupError> {
    let staging = place.staging(&source.data_dir.join(STAGING));
    // What a killed one left: there is one at a time.
    remove_if_there(fs::remove_dir_all(&staging), &staging)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&staging).map_err(at(&staging))?;
    let staged = tempfile::NamedTempFile::new_in(&staging).map_err(at(&staging))?.into_temp_path();
    source.store.copy_to(&staged)?;
    crash_point("backup.copied");
    let copy = Copy::open(&staged)?;
    if let Some(fault) = copy.faults()?.into_iter().next() {
        return Err(BackupError::Unsound(fault));
    }
    let stored_files = if source.in_bucket {
        StoredFiles::InBucket(source.objects.to_string())
    } else {
        StoredFiles::InBackup(copy_files(source.objects, &copy, place)?)
    };
    let (schema, keys) = (copy.schema()?, copy.keys()?);
    drop(copy);
    crash_point("backup.files_stored");
    let database = place.take_in(&staged, DATABASE)?;
    crash_point("backup.database_stored");
    let manifest = Manifest::new(schema, taken_at, database, stored_files, keys);
    let mut writer = place.create(MANIFEST)?;
    serde_json::to_writer_pretty(&mut writer, &manifest).map_err(|error| ObjectError::from(io::Error::from(error)))?;
    writer.finish()?;
    drop(staged);
    remove_if_there(fs::remove_dir_all(&staging), &staging)?;
    Ok(manifest)
}

fn lock(data_dir: &Path) -> Result<File, BackupError> {
    let path = data_dir.join(LOCK_FILE);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| BackupError::UnderWay)?;
    Ok(file)
}

fn copy_files(objects: &Objects, copy: &Copy, place: &Place) -> Result<Vec<Part>, BackupError> {
    let mut parts = Vec::new();
    let mut after = 0;
    loop {
        let files = copy.stored_files(after, FILES_AT_ONCE)?;
        let Some(&(last, _)) = files.last() else { return Ok(parts) };
        after = last;
        for (_, object) in files {
            let mut reader = match objects.open(&object) {
                Ok(reader) => reader,
                // Its batch was deleted meanwhile.
                Err(ObjectError::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let name = format!("{OBJECTS}/{object}");
            let mut writer = place.create(&name)?;
            let (bytes, sha256) = hashing::copy(&mut reader, &mut writer).map_err(ObjectError::from)?;
            writer.finish()?;
            parts.push(Part { name, bytes, sha256 });
        }
    }
}
