//! Deleting where a bucket keeps what is deleted: every version goes, so that nothing is left of a purged batch; and
//! where a lock forbids that, it is said.
//!
//! A deletion in a bucket with versions only puts a marker in front of them, and its answer says so. From then on the
//! versions themselves are listed and deleted, which needs the rights `s3:ListBucketVersions` and
//! `s3:DeleteObjectVersion`; without versions neither is asked for.

use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use minio::s3::{
    builders::{ObjectToDelete, VersioningStatus},
    response_traits::{HasIsDeleteMarker, HasVersion},
    types::{ListEntry, S3Api, ToStream},
};

use super::{Bucket, ObjectError, ObjectName};

/// Pages of versions of one object that are deleted in one call; each has up to a thousand.
const MOST_PAGES: u32 = 10;

const LOCKED: &str = "the bucket locks what is stored (a retention, a legal hold, or a policy without \
                      s3:DeleteObjectVersion): lift that, or give dripfeed a bucket without object lock";

/// What a place for objects keeps of those that are deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keeping {
    /// It has versions, all of which a deletion removes.
    pub versions: bool,
    /// It lets nothing be deleted for so long, in words.
    pub retention: Option<String>,
}

impl Bucket {
    pub(in crate::objects) fn delete(&self, name: &ObjectName) -> Result<(), ObjectError> {
        if !self.has_versions.load(Ordering::Relaxed) {
            let is_kept = self.wait(async {
                let answer = self.client.delete_object(&self.name, name.as_str())?.build().send().await?;
                Ok(answer.is_delete_marker()? || answer.version_id().is_some())
            });
            match is_kept {
                Ok(true) => self.has_versions.store(true, Ordering::Relaxed),
                Ok(false) | Err(ObjectError::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.delete_versions(name)
    }

    fn delete_versions(&self, name: &ObjectName) -> Result<(), ObjectError> {
        for _ in 0..MOST_PAGES {
            let found = self.versions(name)?;
            if found.is_empty() {
                return Ok(());
            }
            // The markers last: as long as a version cannot be deleted, it is at least hidden behind one.
            let (markers, versions): (Vec<_>, Vec<_>) = found.into_iter().partition(|entry| entry.is_delete_marker);
            for version in versions.into_iter().chain(markers) {
                self.delete_version(version)?;
            }
        }
        Err(self.unavailable("it has more versions of one object than are deleted at once".to_owned()))
    }

    /// The first page of what there is under this name.
    fn versions(&self, name: &ObjectName) -> Result<Vec<ListEntry>, ObjectError> {
        let page = self.wait(async {
            let list = self.client.list_objects(&self.name)?.prefix(Some(name.as_str().to_owned()));
            let mut pages = list.include_versions(true).recursive(true).build().to_stream().await;
            pages.next().await.transpose()
        })?;
        let entries = page.map(|page| page.contents).unwrap_or_default();
        Ok(entries.into_iter().filter(|entry| entry.name == name.as_str()).collect())
    }

    fn delete_version(&self, version: ListEntry) -> Result<(), ObjectError> {
        let deleted = self.wait(async {
            self.client.delete_object(&self.name, ObjectToDelete::from(version))?.build().send().await?;
            Ok(())
        });
        match deleted {
            Err(ObjectError::NotFound { .. }) => Ok(()),
            Err(ObjectError::Refused { cause, .. }) => {
                Err(self.refused(format!("a version of a stored file cannot be deleted: {cause}"), LOCKED))
            }
            other => other,
        }
    }

    /// What the bucket keeps. What it does not tell, or not to us, counts as nothing.
    pub(in crate::objects) fn keeping(&self) -> Keeping {
        let versions = self.wait(async {
            let answer = self.client.get_bucket_versioning(&self.name)?.build().send().await?;
            Ok(matches!(answer.status()?, Some(VersioningStatus::Enabled | VersioningStatus::Suspended)))
        });
        let retention = self.wait(async {
            let config = self.client.get_object_lock_config(&self.name)?.build().send().await?.config()?;
            let days = config.retention_duration_days.map(|days| format!("{days} days"));
            Ok(days.or_else(|| config.retention_duration_years.map(|years| format!("{years} years"))))
        });
        Keeping { versions: versions.unwrap_or(false), retention: retention.unwrap_or(None) }
    }
}
