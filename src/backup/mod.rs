//! Backups: the whole appliance but its keys, as it was at one moment, in a folder or in the bucket.
//!
//! ```text
//! dripfeed.db          the database, one plain file, checked after it was copied
//! objects/bat_….csv    the stored files, sealed as they are; not where a bucket keeps them
//! manifest.json        what there has to be, with its hashes; written last, so that what has none is no backup
//! ```
//!
//! The key file is never in a backup: whoever holds the one must not hold the other. The manifest names the keys that
//! are needed.
//!
//! [`take`] runs beside a server, and [`restore`] into a data folder that has no database. Each can be interrupted at any
//! moment, and simply begun again. [`schedule`] takes one from time to time and removes what is old, [`shelf`] is where
//! those lie, [`gone`] keeps beside them what was deleted since, [`revived`] is what else a restore would undo, and [`home`]
//! notices a database that came to its data folder in another way.

pub mod gone;
mod hashing;
pub mod home;
pub mod manifest;
mod name;
mod old;
mod place;
pub mod restore;
pub mod revived;
pub mod risk;
mod room;
pub mod schedule;
pub mod shelf;
mod sweep;
pub mod take;

use std::path::PathBuf;

pub use name::ScheduledName;
pub use place::{Place, PlaceName};

use crate::{keys::KeysError, objects::ObjectError, store::StoreError};

/// Names in a backup.
const DATABASE: &str = crate::store::FILE_NAME;
const OBJECTS: &str = crate::appliance::OBJECTS_FOLDER;
const MANIFEST: &str = "manifest.json";

/// Why there is no backup, or why it was not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The folder or the name is taken.
    #[error("{0} holds a backup already; it stays as it is: name another place")]
    Taken(String),
    /// The folder has something else in it.
    #[error("{0} is not empty; a backup wants a folder of its own: name another one")]
    NotEmpty(String),
    /// Nothing there, or an interrupted one.
    #[error("there is no whole backup in {0}: it has no {MANIFEST}, which is written last; take another one")]
    NotWhole(String),
    /// Not what a backup has.
    #[error("the backup's {MANIFEST} is not understood: {0}")]
    Manifest(String),
    /// A backup of a later version.
    #[error("the backup was written by dripfeed {0}, in a form that this dripfeed does not know: use that one")]
    Newer(String),
    /// A file of it is not the one that was written.
    #[error("`{0}` in the backup is damaged: it is not what {MANIFEST} says; use another backup")]
    Damaged(String),
    /// It was written, or changed, by somebody without the keys.
    #[error(
        "the backup's {MANIFEST} was not written by this installation, or was changed since: its seal does not fit, unless the key of \
         that id in the key file is not the one that it was sealed with; use another backup, and see who can write there"
    )]
    Foreign,
    /// What was ended since would be good again, and nobody said what to do.
    #[error("{0}")]
    Revives(String),
    /// What is given as the old data folder is none that this backup was taken of.
    #[error(
        "{0}, which --old names, is not the data folder that this backup was taken of, or is older than it: name that one, or leave \
         --old out and say --keep-revived"
    )]
    NotOfOld(PathBuf),
    /// What is given as the old data folder knows nothing of what came after it.
    #[error(
        "{0}, which --old names, is a backup, and not a data folder, so that it does not tell what was ended since: name the folder \
         that the server worked in, or leave --old out and say --keep-revived"
    )]
    OldIsBackup(PathBuf),
    /// Nothing can be learnt from what is given as the old data folder.
    #[error(
        "{old}, which --old names as the data folder of before, cannot be read: {why}; see to that, or leave --old out and say \
         --keep-revived"
    )]
    OldUnreadable {
        /// The folder.
        old: PathBuf,
        /// What is in the way.
        why: String,
    },
    /// The database in it does not pass the check.
    #[error("the database in the backup is damaged: {0}; use another one")]
    Unsound(String),
    /// Where it should go is something already.
    #[error(
        "{0} is there already: a backup is restored into a data folder that has no database; move it away, or set \
         storage.data_dir to a new folder"
    )]
    Occupied(PathBuf),
    /// The stored files are in a bucket that this configuration does not have.
    #[error("the stored files of this backup are in {0}: set [objects] to it, and restore again")]
    Bucket(String),
    /// What was read back is not what was written.
    #[error(
        "`{0}` reads back from {1} as something else than was written: see to that disk or store; another backup is needed"
    )]
    NotAsWritten(String, String),
    /// There is too little room.
    #[error(
        "a backup needs {needed} MB in {folder}, and {free} MB are free: make room there, or set backup.to to a folder on \
         another disk"
    )]
    NoRoom {
        /// Where.
        folder: PathBuf,
        /// How much it takes, and what has to be left.
        needed: u64,
        /// How much there is.
        free: u64,
    },
    /// The server ends.
    #[error("it was broken off, because the server ends")]
    Ended,
    /// Nobody said where scheduled backups go.
    #[error("there is no place where scheduled backups go: set backup.to or [objects], or name a folder")]
    NoShelf,
    /// No whole backup on a shelf.
    #[error("there is no whole scheduled backup in {0}")]
    NoneThere(String),
    /// Whose latest?
    #[error("backups of several appliances are in {0}; name one of their latest: {1}")]
    OfSeveral(String, String),
    /// Another one is under way.
    #[error("another backup of this data folder is being taken; wait for it to end")]
    UnderWay,
    /// There is no bucket.
    #[error("there is no bucket: set [objects], or name a folder")]
    NoBucket,
    /// The keys do not open it.
    #[error("the backup cannot be opened with these keys: {0}")]
    Keys(#[from] KeysError),
    /// The place of the backup, or the store of files.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the data folder.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
}

/// For `map_err`: which file it was.
fn at(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> BackupError {
    let path = path.into();
    move |error| BackupError::File(path, error)
}
