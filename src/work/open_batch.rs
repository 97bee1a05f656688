//! Batches whose rows are being worked on, opened: unwrapping a data key for every row would be waste.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::workflows::{Kept, VersionError};
use crate::{
    crypto::{DataKey, KeyRing, OpenError, Place, Purpose, WrappedKey},
    intake::Header,
    model::BatchId,
    store::{Store, StoreError, batches, data_keys},
};

/// Open batches that are kept at hand.
const KEPT: usize = 64;

/// What is known of a batch besides its rows, and is private: sealed in `batches.details`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BatchDetails {
    /// The name that the file had where it came from.
    pub file_name: Option<String>,
    /// Its header, as it stood.
    pub header: Header,
    /// What the client gave with the upload, and what we know of the request: `context` in templates.
    pub context: Value,
}

/// A batch with its data key and details open.
pub struct OpenBatch {
    /// Its name outside.
    pub id: BatchId,
    /// The client's key in the database.
    pub client: i64,
    /// The workflow of its rows, as it was accepted under.
    pub kept: Arc<Kept>,
    /// Opens and seals everything of its rows.
    pub key: DataKey,
    /// File name, header, context.
    pub details: BatchDetails,
}

/// Why a batch does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenBatchError {
    /// Its data key or details do not open.
    #[error("the batch cannot be opened: {0}")]
    Sealed(#[from] OpenError),
    /// They open, and are not what we wrote. The cause is left out: it quotes them.
    #[error("the batch's details are not understood")]
    Details(#[from] serde_json::Error),
    /// Its workflow is not at hand.
    #[error(transparent)]
    Workflow(#[from] VersionError),
    /// The database could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenBatch {
    /// Opens what is sealed of a batch.
    pub(crate) fn open(store: &Store, ring: &KeyRing, batch: i64, kept: Arc<Kept>) -> Result<Self, OpenBatchError> {
        let (batch, wrapped, details) = store.read(|connection| {
            let wrapped = data_keys::of(connection, batch)?;
            Ok((batches::by_key(connection, batch)?, wrapped, batches::details(connection, batch)?))
        })?;
        let wrapped = WrappedKey { key_id: wrapped.key_id, sealed: wrapped.sealed };
        let key = ring.unwrap(&wrapped, batch.id)?;
        let details = key.open(Place::batch(Purpose::Context, batch.id), &details)?;
        Ok(Self { id: batch.id, client: batch.client, kept, details: serde_json::from_slice(&details)?, key })
    }

    /// Where something of a row of this batch belongs.
    pub fn place(&self, purpose: Purpose, number: u32) -> Place {
        Place::row(purpose, self.id, number)
    }

    /// The cells of a record in the file's order, by the names that templates know them by.
    pub fn named_cells<'a>(&'a self, cells: &'a [String]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let names = self.details.header.kept().map(|column| column.template_name());
        names.zip(cells.iter().map(String::as_str))
    }
}

/// The batches that were needed last.
#[derive(Default)]
pub struct OpenBatches(Mutex<VecDeque<(i64, Arc<OpenBatch>)>>);

impl OpenBatches {
    /// The batch with this key in the database, opened by `open` where it is not at hand. One that was moved to another
    /// version of its workflow is opened anew: a command beside this process may have done that.
    pub fn get(
        &self,
        batch: i64,
        version: i64,
        open: impl FnOnce() -> Result<OpenBatch, OpenBatchError>,
    ) -> Result<Arc<OpenBatch>, OpenBatchError> {
        let is_it = |(key, open): &&(i64, Arc<OpenBatch>)| *key == batch && open.kept.version == version;
        if let Some((_, open)) = self.lock().iter().find(is_it) {
            return Ok(open.clone());
        }
        let open = Arc::new(open()?);
        let mut kept = self.lock();
        kept.retain(|(key, _)| *key != batch);
        kept.truncate(KEPT - 1);
        kept.push_front((batch, open.clone()));
        Ok(open)
    }

    /// Forgets a batch that was deleted: the last copy of its data key, and its details.
    pub fn forget(&self, batch: i64) {
        self.lock().retain(|(key, _)| *key != batch);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(i64, Arc<OpenBatch>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
