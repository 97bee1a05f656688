//! What may still refuse a file that was received whole and is valid.

use std::time::Duration;

use super::UploadError;
use crate::{
    model::{
        BatchId, Timestamp,
        quota::{Amounts, Exceeded, Quotas},
    },
    store::{
        Connection, StoreError,
        batches::{self, NewBatch},
        quotas,
        upload_keys::{self, UploadKey},
    },
};

/// Why a file that was received does not become a batch after all.
pub(super) enum Late {
    Revoked,
    Duplicate(BatchId),
    KeyInUse,
    Quota(Exceeded),
}

impl From<Late> for UploadError {
    fn from(late: Late) -> Self {
        match late {
            Late::Revoked => Self::Revoked,
            Late::Duplicate(earlier) => Self::Duplicate(earlier),
            Late::KeyInUse => Self::KeyInUse,
            Late::Quota(exceeded) => Self::Quota(exceeded),
        }
    }
}

/// What it is held against, in the transaction that makes it a batch at the latest.
pub(super) struct LastLook {
    /// For how long the same file may not come again; `None`: it may.
    pub(super) duplicate_window: Option<Duration>,
    pub(super) once: Option<UploadKey>,
    pub(super) limits: Quotas,
    pub(super) more: Amounts,
}

impl LastLook {
    pub(super) fn at(
        &self,
        connection: &Connection,
        new: &NewBatch,
        now: Timestamp,
    ) -> Result<Option<Late>, StoreError> {
        if let Some(window) = self.duplicate_window
            && let Some(earlier) =
                batches::same_file(connection, new.client, &new.workflow, &new.file_digest, now.before(window))?
        {
            return Ok(Some(Late::Duplicate(earlier)));
        }
        if let Some(once) = &self.once
            && upload_keys::find(connection, once, now)?.is_some()
        {
            return Ok(Some(Late::KeyInUse));
        }
        Ok(quotas::exceeded(connection, new.client, self.limits, self.more)?.map(Late::Quota))
    }
}
