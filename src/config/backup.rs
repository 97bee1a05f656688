//! `[backup]`

use std::{path::PathBuf, time::Duration};

use super::{reader::Section, server};
use crate::store::deletions::CopiesKept;

/// Where it is not said.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);
/// Backups that follow each other faster than this would have the same name.
const SHORTEST_EVERY: Duration = Duration::from_secs(1);
/// What stands for the bucket in `to`.
const BUCKET: &str = "bucket";

/// `[backup]`
#[derive(Debug, Clone)]
pub struct Backup {
    /// `every`: how often the server takes one by itself. Left out: never.
    pub every: Option<Duration>,
    /// `to`: where those go, and where `dripfeed backups` looks. Default the bucket, where there is one.
    pub to: Option<BackupTo>,
    /// `keep`: how long a backup is kept. What the server took goes by itself when it is older, all but the last one
    /// that is whole; the receipt of a deleted batch says until when one can still hold it. Default 30d.
    pub keep: Duration,
    /// `replica_keep`: how long what else copies the database (a replica, snapshots of the volume) keeps its copies, for
    /// that receipt. Left out: nothing does.
    pub replica_keep: Option<Duration>,
}

/// Where scheduled backups go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupTo {
    /// The bucket of `[objects]`, below `backups/`.
    Bucket,
    /// A folder, in which each one is a folder.
    Folder(PathBuf),
}

impl Backup {
    pub(super) fn read(mut section: Section<'_>, objects: &server::Objects, storage: &server::Storage) -> Self {
        let has_bucket = matches!(objects, server::Objects::Minio(_));
        let given = section.text("to").map(|to| match to.as_str() {
            BUCKET => BackupTo::Bucket,
            folder => BackupTo::Folder(PathBuf::from(folder)),
        });
        let backup = Self {
            every: section.optional_duration("every"),
            to: given.or(has_bucket.then_some(BackupTo::Bucket)),
            keep: section.duration("keep", KEEP),
            replica_keep: section.optional_duration("replica_keep"),
        };
        match &backup.to {
            Some(BackupTo::Bucket) if !has_bucket => {
                section.fault("to", "is \"bucket\", and there is none: set [objects], or name a folder");
            }
            Some(BackupTo::Folder(folder)) if folder.starts_with(&storage.data_dir) => {
                section.fault("to", "lies in storage.data_dir, and would be lost with it: name a folder elsewhere");
            }
            _ => {}
        }
        if backup.every.is_some_and(|every| every < SHORTEST_EVERY) {
            section.fault("every", "is at least \"1s\"; leave it out where the server is to take none");
        }
        if backup.every.is_some() && backup.to.is_none() && !section.has("to") {
            section.fault("every", "has no place to go: set backup.to to a folder on another disk, or [objects]");
        }
        section.finish();
        backup
    }

    /// How long copies are kept of what is deleted now. The last whole backup stays until the next follows it.
    pub fn copies_kept(&self) -> CopiesKept {
        CopiesKept { backups: self.keep.max(self.every.unwrap_or_default()), replicas: self.replica_keep }
    }
}
