//! What a backup says of itself.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{BackupError, MANIFEST, Place, hashing};
use crate::{
    crash_point::crash_point,
    crypto::{KeyRing, OpenError, WrappedKey, same},
    keys::KeysError,
    model::Timestamp,
    objects::ObjectError,
};

/// The form that this version writes and reads.
const FORMAT: u32 = 1;
/// A manifest that is larger than this is none: a million files are 150 MB.
const LARGEST: u64 = 512 * 1024 * 1024;

/// `manifest.json`: written last, so that what has one is whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Of this document: 1.
    pub format: u32,
    /// The version of dripfeed that wrote it.
    pub dripfeed: String,
    /// The version of the database's schema.
    pub schema: i64,
    /// The moment whose state it holds.
    pub taken_at: Timestamp,
    /// The database.
    pub database: Part,
    /// Where the stored files are.
    pub stored_files: StoredFiles,
    /// Ids of the keys that are needed to open what is in it. The keys themselves are never in a backup.
    pub keys: Vec<String>,
    /// That all of this was written by somebody who has the keys.
    #[serde(default)]
    pub seal: Option<Seal>,
}

/// The SHA-256 of a manifest without its seal, sealed under a key of the ring. Hashes say that a file is the one that was
/// written; this says by whom: who can write where backups lie could else put an operator of their own into one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Under which key.
    pub key: String,
    /// In hexadecimal digits.
    pub sealed: String,
}

/// What it is sealed as.
const SEALED_AS: &str = "backup manifest";

/// A file of the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name in the backup.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// Where the stored files are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredFiles {
    /// In the backup: these. Files of batches that were deleted while the backup was being taken are not there.
    InBackup(Vec<Part>),
    /// Where they were, in this bucket: a backup does not copy what is in a bucket.
    InBucket(String),
}

impl Manifest {
    /// The manifest of a backup that ends now.
    pub(super) fn new(
        schema: i64,
        taken_at: Timestamp,
        database: Part,
        stored_files: StoredFiles,
        keys: Vec<String>,
        ring: &KeyRing,
    ) -> Result<Self, BackupError> {
        let dripfeed = env!("CARGO_PKG_VERSION").to_owned();
        let unsealed = Self { format: FORMAT, dripfeed, schema, taken_at, database, stored_files, keys, seal: None };
        let wrapped = ring.wrap_secret(SEALED_AS, &unsealed.digest()?);
        let seal = Seal { key: wrapped.key_id, sealed: hashing::hex(&wrapped.sealed) };
        Ok(Self { seal: Some(seal), ..unsealed })
    }

    /// Whether it was written by somebody who has the keys, and not changed since.
    pub(super) fn check_seal(&self, ring: &KeyRing) -> Result<(), BackupError> {
        let seal = self.seal.as_ref().ok_or(BackupError::Foreign)?;
        let sealed = hashing::from_hex(&seal.sealed).ok_or(BackupError::Foreign)?;
        let opened = ring.unwrap_secret(&WrappedKey { key_id: seal.key.clone(), sealed }, SEALED_AS);
        let opened = opened.map_err(|error| match error {
            OpenError::UnknownKey(id) => BackupError::Keys(KeysError::Absent(id)),
            OpenError::DoesNotOpen => BackupError::Foreign,
        })?;
        if same(&opened, &self.digest()?) { Ok(()) } else { Err(BackupError::Foreign) }
    }

    fn digest(&self) -> Result<[u8; 32], BackupError> {
        let unsealed = Self { seal: None, ..self.clone() };
        let text = serde_json::to_vec(&unsealed).map_err(|error| BackupError::Manifest(error.to_string()))?;
        Ok(Sha256::digest(text).into())
    }

    /// Writes it, and reads it back: with it the backup is whole. Where that fails, there is none.
    pub(super) fn write(&self, place: &Place) -> Result<(), BackupError> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| BackupError::Manifest(error.to_string()))?;
        let mut writer = place.create(MANIFEST)?;
        writer.write_all(&text).map_err(ObjectError::from)?;
        writer.finish()?;
        crash_point("backup.manifest_written");
        let read = place.open(MANIFEST).map_err(BackupError::from).and_then(read_all);
        match read {
            Ok(read) if read == text => Ok(()),
            read => {
                place.delete(MANIFEST)?;
                read.and(Err(BackupError::NotAsWritten(MANIFEST.to_owned(), place.to_string())))
            }
        }
    }

    /// Reads it; a backup that has none is not whole.
    pub fn read(place: &Place) -> Result<Self, BackupError> {
        Self::read_from(place.open(MANIFEST), || place.to_string())
    }

    /// Reads what was opened in the backup that is `shown` so.
    pub(super) fn read_from(
        opened: Result<impl Read, ObjectError>,
        shown: impl FnOnce() -> String,
    ) -> Result<Self, BackupError> {
        let reader = opened.map_err(|error| match error {
            ObjectError::NotFound { .. } => BackupError::NotWhole(shown()),
            error => error.into(),
        })?;
        Self::parse(&read_all(reader)?)
    }

    /// Reads that of the backup in a folder.
    pub(super) fn read_folder(folder: &Path) -> Result<Self, BackupError> {
        let opened = File::open(folder.join(MANIFEST)).map_err(ObjectError::from);
        Self::read_from(opened, || folder.display().to_string())
    }

    pub(crate) fn parse(text: &[u8]) -> Result<Self, BackupError> {
        let head: Head = serde_json::from_slice(text).map_err(|error| BackupError::Manifest(error.to_string()))?;
        if head.format != FORMAT {
            return Err(BackupError::Newer(head.dripfeed));
        }
        serde_json::from_slice(text).map_err(|error| BackupError::Manifest(error.to_string()))
    }

    /// How many bytes the backup has, those that it shares with others too.
    pub fn bytes(&self) -> u64 {
        let files = match &self.stored_files {
            StoredFiles::InBackup(parts) => parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.bytes)),
            StoredFiles::InBucket(_) => 0,
        };
        self.database.bytes.saturating_add(files)
    }

    /// How many stored files are in the backup.
    pub fn files(&self) -> usize {
        match &self.stored_files {
            StoredFiles::InBackup(parts) => parts.len(),
            StoredFiles::InBucket(_) => 0,
        }
    }
}

fn read_all(reader: impl Read) -> Result<Vec<u8>, BackupError> {
    let mut text = Vec::new();
    reader.take(LARGEST).read_to_end(&mut text).map_err(ObjectError::from)?;
    Ok(text)
}

/// What every form of the manifest has.
#[derive(Deserialize)]
struct Head {
    format: u32,
    dripfeed: String,
}
