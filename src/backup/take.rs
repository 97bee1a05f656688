//! Taking a backup, beside a server that goes on working.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Read,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::{
    BackupError, DATABASE, OBJECTS, Place, at, hashing,
    manifest::{Manifest, Part, StoredFiles},
    place::remove_if_there,
    room,
};
use crate::{
    closing::Closing,
    crash_point::crash_point,
    crypto::KeyRing,
    model::Timestamp,
    objects::{ObjectError, Objects},
    private,
    store::{
        Store,
        backups::{self, Copy, Progress, StoredFile},
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
    /// What it is called, if it is a scheduled one.
    pub name: Option<String>,
    /// The folder of another whole backup beside it: stored files that are in that one need not be written again.
    pub previous: Option<PathBuf>,
    /// By whose key it is sealed.
    pub ring: &'a KeyRing,
    /// The end of this process, for which a backup is broken off.
    pub closing: &'a Closing,
}

/// Takes a backup, checks the copy, and reads back whatever was written before it says that it is whole.
///
/// The database comes first: each batch's file was stored before the batch was there, so every file that the copy speaks
/// of can still be copied after it. Only a deletion takes one away, and then nobody needs it any more.
pub fn take(source: &Source<'_>, place: &Place) -> Result<Manifest, BackupError> {
    let _lock = lock(source.data_dir)?;
    let staging = make_staging(place, source.data_dir)?;
    room::check(&staging, source.store.bytes()?)?;
    let (shown, name) = (place.to_string(), source.name.clone());
    let begin = move |tx: &crate::store::Tx<'_>| Ok((backups::begin(tx, &shown, name.as_deref())?, tx.now));
    let (backup, taken_at) = source.store.write(begin)?;
    let manifest = copy_all(source, place, &staging, taken_at)?;
    source.store.write(move |tx| backups::finish(tx, backup))?;
    Ok(manifest)
}

fn copy_all(source: &Source<'_>, place: &Place, staging: &Path, taken_at: Timestamp) -> Result<Manifest, BackupError> {
    let staged = tempfile::NamedTempFile::new_in(staging).map_err(at(staging))?.into_temp_path();
    let goes_on = |progress: Progress| {
        tracing::debug!(
            event = "backup.copying",
            copied = progress.copied,
            pages = progress.pages,
            "the database is being copied"
        );
        !source.closing.is_closed()
    };
    if !source.store.copy_to(&staged, goes_on)? {
        return Err(BackupError::Ended);
    }
    crash_point("backup.copied");
    let copy = Copy::open(&staged)?;
    let faults = copy.faults_unless(|| source.closing.is_closed())?.ok_or(BackupError::Ended)?;
    if let Some(fault) = faults.into_iter().next() {
        return Err(BackupError::Unsound(fault));
    }
    let stored_files = if source.in_bucket {
        StoredFiles::InBucket(source.objects.to_string())
    } else {
        StoredFiles::InBackup(Files::new(source, place).copy_all(&copy)?)
    };
    let (schema, keys) = (copy.schema()?, copy.keys()?);
    drop(copy);
    crash_point("backup.files_stored");
    let database = place.take_in(&staged, DATABASE, source.closing)?;
    crash_point("backup.database_stored");
    place.read_back(&database, source.closing)?;
    let manifest = Manifest::new(schema, taken_at, database, stored_files, keys, source.ring)?;
    manifest.write(place)?;
    drop(staged);
    remove_if_there(fs::remove_dir_all(staging), staging)?;
    Ok(manifest)
}

/// The folder in which SQLite makes its copy. In a folder it is the mark that what is there is a backup of ours which is
/// not whole, so only a whole one removes it. What a killed one left in it goes: there is one at a time.
fn make_staging(place: &Place, data_dir: &Path) -> Result<PathBuf, BackupError> {
    let staging = place.staging(&data_dir.join(STAGING));
    remove_if_there(fs::remove_dir_all(&staging), &staging)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&staging).map_err(at(&staging))?;
    Ok(staging)
}

fn lock(data_dir: &Path) -> Result<File, BackupError> {
    let path = data_dir.join(LOCK_FILE);
    let file = private::file(&path).map_err(at(&path))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| BackupError::UnderWay)?;
    Ok(file)
}

/// Brings the stored files into a backup.
///
/// A stored file never changes, so a backup that lies beside another one shares it as a hard link: written once, however
/// many backups have it, and gone with the last of them, which the file system counts. Each is still a plain folder with
/// everything in it, and can be copied or removed like one. With 1,000 batches of 100 MB a day's backup reads 100 GB
/// through, as that is what "verified" says, and writes what is new; copied each time, thirty of them would be 3 TB.
struct Files<'a> {
    source: &'a Source<'a>,
    place: &'a Place,
    /// What the other backup has, by name.
    previous: HashMap<String, Part>,
}

impl<'a> Files<'a> {
    fn new(source: &'a Source<'a>, place: &'a Place) -> Self {
        let manifest = source.previous.as_ref().and_then(|folder| Manifest::read_folder(folder).ok());
        let parts = match manifest.map(|manifest| manifest.stored_files) {
            Some(StoredFiles::InBackup(parts)) => parts,
            Some(StoredFiles::InBucket(_)) | None => Vec::new(),
        };
        let previous = parts.into_iter().map(|part| (part.name.clone(), part)).collect();
        Self { source, place, previous }
    }

    fn copy_all(&self, copy: &Copy) -> Result<Vec<Part>, BackupError> {
        self.check_room(copy)?;
        let mut parts = Vec::new();
        for_each(copy, |file| {
            let name = format!("{OBJECTS}/{}", file.object);
            let part = match self.share(&name)? {
                Some(part) => Some(part),
                None => self.copy(&file.object, name)?,
            };
            parts.extend(part);
            Ok(())
        })?;
        self.place.sync_files()?;
        Ok(parts)
    }

    fn check_room(&self, copy: &Copy) -> Result<(), BackupError> {
        let Some(folder) = self.place.folder() else { return Ok(()) };
        let mut bytes = 0;
        for_each(copy, |file| {
            let is_shared = self.previous.contains_key(&format!("{OBJECTS}/{}", file.object));
            bytes += if is_shared { 0 } else { file.bytes };
            Ok(())
        })?;
        room::check(folder, bytes)
    }

    /// The file of the other backup, if it is there and still what it was.
    fn share(&self, name: &str) -> Result<Option<Part>, BackupError> {
        let (Some(part), Some(other)) = (self.previous.get(name), &self.source.previous) else { return Ok(None) };
        if !self.place.share(other, name) {
            return Ok(None);
        }
        match self.place.read_back(part, self.source.closing) {
            Ok(()) => Ok(Some(part.clone())),
            Err(BackupError::Ended) => Err(BackupError::Ended),
            Err(error) => {
                tracing::warn!(event = "backup.file_damaged", %error, "a stored file in an older backup is damaged; the new one gets its own copy");
                Ok(None)
            }
        }
    }

    fn copy(&self, object: &str, name: String) -> Result<Option<Part>, BackupError> {
        let mut reader: Box<dyn Read + Send> = match self.source.objects.open(object) {
            Ok(reader) => reader,
            // Its batch was deleted meanwhile.
            Err(ObjectError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut writer = self.place.create(&name)?;
        let (bytes, sha256) = hashing::copy_until(&mut reader, &mut writer, self.source.closing)?;
        writer.finish()?;
        let part = Part { name, bytes, sha256 };
        self.place.read_back(&part, self.source.closing)?;
        Ok(Some(part))
    }
}

fn for_each(copy: &Copy, mut take: impl FnMut(StoredFile) -> Result<(), BackupError>) -> Result<(), BackupError> {
    let mut after = 0;
    loop {
        let files = copy.stored_files(after, FILES_AT_ONCE)?;
        let Some(last) = files.last() else { return Ok(()) };
        after = last.batch;
        files.into_iter().try_for_each(&mut take)?;
    }
}
