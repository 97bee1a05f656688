//! Batches whose rows are being worked on, opened: unwrapping a data key for every row would be waste.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    idempotency::{BatchOrigin, OfBatch},
    workflows::{Kept, VersionError},
};
use crate::{
    crypto::{DataKey, KeyRing, OpenError, Place, Purpose, WrappedKey},
    intake::Header,
    model::{BatchId, Workflow},
    store::{Store, StoreError, batches, data_keys},
};

/// Bytes of open batches that are kept at hand: about ten thousand of the usual ones in each half, some dozens of those with
/// the largest context.
const KEPT_BYTES: usize = 40 * 1024 * 1024;
/// What one has besides its details, and each of its columns besides its names.
const BYTES_EACH: usize = 512;
const BYTES_A_COLUMN: usize = 96;
/// What a member of an object has besides its name and its value.
const BYTES_A_MEMBER: usize = 48;

/// What is known of a batch besides its rows, and is private: sealed in the table `batch_details`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BatchDetails {
    /// The name that the file had where it came from.
    pub file_name: Option<String>,
    /// The SHA-256 of the inflated file, in hexadecimal digits.
    pub file_sha256: String,
    /// Its header, as it stood.
    pub header: Header,
    /// What the client gave with the upload, and what we know of the request: `context` in templates.
    pub context: Value,
    /// What its rows' keys are derived from, where the upload had an `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<BatchOrigin>,
}

impl BatchDetails {
    /// About how much memory they take.
    fn bytes(&self) -> usize {
        let columns = self.header.columns.iter().map(|column| BYTES_A_COLUMN + 2 * column.name.len());
        self.file_name.as_ref().map_or(0, String::len)
            + self.file_sha256.len()
            + columns.sum::<usize>()
            + bytes_of(&self.context)
    }
}

/// About how much memory a value takes. A short text can make a large one: `[0,0,0]`.
fn bytes_of(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(bytes_of).sum(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| BYTES_A_MEMBER + name.len() + bytes_of(value)).sum()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
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
    /// The file's name and SHA-256, its header, and the context.
    pub details: BatchDetails,
    /// About how much memory it takes.
    bytes: usize,
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
        let details: BatchDetails = serde_json::from_slice(&details)?;
        let bytes = BYTES_EACH + details.bytes();
        Ok(Self { id: batch.id, client: batch.client, kept, key, details, bytes })
    }

    /// What its rows' origins need of it.
    pub fn origin(&self) -> OfBatch {
        OfBatch { client: self.client, batch: self.id, origin: self.details.origin }
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

    /// The cells as the templates of a workflow see them: an optional column that the file does not have is empty.
    pub fn cells_for<'a>(
        &'a self,
        workflow: &'a Workflow,
        cells: &'a [String],
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let absent = workflow.columns.iter().map(|column| (column.name.as_str(), ""));
        absent.chain(self.named_cells(cells))
    }
}

/// The batches that were needed last. A look takes the same time however many they are.
#[derive(Default)]
pub struct OpenBatches(Mutex<AtHand<OpenBatch>>);

/// Two halves: those that were needed since the younger one began, and those that were needed while it was filled before. When
/// the younger one is full it becomes the older one, and what was not needed since is let go.
struct AtHand<T> {
    young: HashMap<i64, Weighed<T>>,
    young_bytes: usize,
    old: HashMap<i64, Weighed<T>>,
}

/// Something, and about how many bytes it takes.
type Weighed<T> = (Arc<T>, usize);

impl<T> Default for AtHand<T> {
    fn default() -> Self {
        Self { young: HashMap::new(), young_bytes: 0, old: HashMap::new() }
    }
}

impl<T> AtHand<T> {
    fn find(&mut self, batch: i64) -> Option<Arc<T>> {
        if let Some((open, _)) = self.young.get(&batch) {
            return Some(open.clone());
        }
        let (open, bytes) = self.old.remove(&batch)?;
        self.keep(batch, open.clone(), bytes);
        Some(open)
    }

    fn keep(&mut self, batch: i64, open: Arc<T>, bytes: usize) {
        if self.young_bytes + bytes > KEPT_BYTES / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        if let Some((_, before)) = self.young.insert(batch, (open, bytes)) {
            self.young_bytes -= before;
        }
    }

    fn forget(&mut self, batch: i64) {
        self.old.remove(&batch);
        if let Some((_, bytes)) = self.young.remove(&batch) {
            self.young_bytes -= bytes;
        }
    }
}

impl OpenBatches {
    /// The batch with this key in the database, opened by `open` where it is not at hand. One that was moved to another
    /// version of its workflow is opened anew: a command beside this process may have done that.
    pub fn get(
        &self,
        batch: i64,
        version: i64,
        open: impl FnOnce() -> Result<OpenBatch, OpenBatchError>,
    ) -> Result<Arc<OpenBatch>, OpenBatchError> {
        if let Some(open) = self.lock().find(batch).filter(|open| open.kept.version == version) {
            return Ok(open);
        }
        let open = Arc::new(open()?);
        self.lock().keep(batch, open.clone(), open.bytes);
        Ok(open)
    }

    /// Forgets a batch that was deleted: the last copy of its data key, and its details.
    pub fn forget(&self, batch: i64) {
        self.lock().forget(batch);
    }

    fn lock(&self) -> MutexGuard<'_, AtHand<OpenBatch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_thousand_batches_in_turn_are_all_at_hand() {
        let context = serde_json::json!({ "ip": "203.0.113.7", "user_agent": "curl/8.5.0", "campaign": "spring" });
        let usual = BYTES_EACH + 7 * (BYTES_A_COLUMN + 2 * 12) + bytes_of(&context);
        let mut at_hand = AtHand::default();
        // The first time each has to be opened, and never again.
        let mut opened = 0;
        for batch in (0..8_000).cycle().take(3 * 8_000) {
            if at_hand.find(batch).is_none() {
                at_hand.keep(batch, Arc::new(()), usual);
                opened += 1;
            }
        }
        assert_eq!(opened, 8_000);
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes_and_what_was_needed_last_stays() {
        let mut at_hand = AtHand::default();
        for batch in 0..10_000 {
            at_hand.keep(batch, Arc::new(()), 100_000);
            assert!(at_hand.find(0).is_some(), "it is needed all the time");
            let bytes: usize = at_hand.young.values().chain(at_hand.old.values()).map(|(_, bytes)| bytes).sum();
            assert!(bytes <= KEPT_BYTES && at_hand.young_bytes <= KEPT_BYTES / 2, "{bytes}");
        }
        at_hand.forget(0);
        assert!(at_hand.find(0).is_none() && at_hand.find(5_000).is_none());
    }
}
