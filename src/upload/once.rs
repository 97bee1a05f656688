//! An upload with an `Idempotency-Key` is made once: whoever sends it again, because no answer came, gets the first
//! answer again (draft-ietf-httpapi-idempotency-key-header; the rules are Stripe's).
//!
//! What became a batch is remembered in the transaction that made it one, so there is no moment at which a crash could
//! separate the two. What is under way is known in memory: there is one server for a data folder, and its death ends
//! its uploads. A refused upload is not remembered, so that a corrected file can be sent under the same key.

use std::{
    collections::{BTreeMap, HashSet},
    io::Read,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Map, Value};

use super::{UploadError, rules};
use crate::{
    appliance::Appliance,
    crypto::{Place, Purpose, Tag, same},
    intake::{Refused, pass},
    model::{BatchId, Workflow},
    store::{
        StoreError, batches,
        upload_keys::{self, UploadKey},
    },
    work::open_batch::OpenBatchError,
};

/// How long a key is remembered.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3_600);

/// The keys of uploads under way.
#[derive(Debug, Clone, Default)]
pub struct KeysInUse(Arc<Mutex<HashSet<UploadKey>>>);

/// A key that nobody else can use until this is dropped.
#[derive(Debug)]
pub struct HeldKey {
    pub(super) key: UploadKey,
    in_use: KeysInUse,
}

/// The upload that came first under a key, and its answer.
pub struct First {
    /// The batch that it became.
    pub id: BatchId,
    /// The body of its answer.
    pub answer: Vec<u8>,
    fingerprint: Tag,
}

impl HeldKey {
    /// Takes a client's key for a path; `None` while another upload has it.
    pub fn take(appliance: &Appliance, client: i64, path: &str, key: &str) -> Option<Self> {
        // Only a keyed hash is kept: what people choose as a key may be short, or mean something.
        let hash = appliance.identity.tag(&[b"upload-key", key.as_bytes()]);
        let key = UploadKey { client, path: path.to_owned(), hash };
        let in_use = appliance.keys_in_use.clone();
        let is_free = in_use.lock().insert(key.clone());
        // Made only where it is free: what is dropped here would free another upload's key.
        is_free.then(|| Self { key, in_use })
    }

    /// The upload that is remembered under this key. Blocks.
    pub fn first(&self, appliance: &Appliance) -> Result<Option<First>, UploadError> {
        let now = appliance.clock.now();
        let Some(found) = appliance.store.read(|connection| upload_keys::find(connection, &self.key, now))? else {
            return Ok(None);
        };
        let batch = appliance.store.read(|connection| batches::by_key(connection, found.batch))?;
        let open = appliance.open_batch(found.batch, batch.workflow_version)?;
        let answer = open.key.open(Place::batch(Purpose::Answer, open.id), &found.answer);
        let answer = answer.map_err(OpenBatchError::from)?.to_vec();
        Ok(Some(First { id: open.id, answer, fingerprint: found.fingerprint }))
    }
}

impl Drop for HeldKey {
    fn drop(&mut self) {
        self.in_use.lock().remove(&self.key);
    }
}

impl KeysInUse {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<UploadKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl First {
    /// The SHA-256 of a body that came under the same key, read to its end; nothing of it is stored. Blocks.
    pub fn hash(
        &self,
        appliance: &Appliance,
        workflow: &Workflow,
        body: impl Read,
        gzip: bool,
    ) -> Result<[u8; 32], UploadError> {
        pass::sha256(body, rules(appliance, workflow)?, gzip).map_err(|refused| match refused {
            // The first one was read to its end, so this is another file.
            Refused::Invalid(_) | Refused::TooLarge { .. } => UploadError::KeyReused,
            other => other.into(),
        })
    }

    /// The first answer, for the same file and context.
    pub fn again(
        self,
        appliance: &Appliance,
        sha256: &[u8; 32],
        context: &Map<String, Value>,
    ) -> Result<Self, UploadError> {
        let is_the_same = same(&self.fingerprint, &fingerprint(appliance, sha256, context));
        if is_the_same { Ok(self) } else { Err(UploadError::KeyReused) }
    }
}

/// What tells uploads under one key apart: the inflated file, and the context whatever the order of its members.
/// `allow_duplicate` and the file's name do not count: neither changes what the batch means.
pub(super) fn fingerprint(appliance: &Appliance, sha256: &[u8; 32], context: &Map<String, Value>) -> Tag {
    let context = serde_json::to_vec(&members_in_order(context)).unwrap_or_default();
    appliance.identity.tag(&[b"upload", sha256, &context])
}

fn members_in_order(members: &Map<String, Value>) -> Value {
    let sorted: BTreeMap<_, _> = members.iter().map(|(name, value)| (name.clone(), in_order(value))).collect();
    Value::Object(sorted.into_iter().collect())
}

fn in_order(value: &Value) -> Value {
    match value {
        Value::Object(members) => members_in_order(members),
        Value::Array(items) => Value::Array(items.iter().map(in_order).collect()),
        other => other.clone(),
    }
}

/// Forgets keys that have expired, in pieces that let other writes in between.
pub(super) fn forget_expired(appliance: &Appliance) -> Result<(), StoreError> {
    let now = appliance.clock.now();
    if !appliance.store.read(|connection| upload_keys::any_expired(connection, now))? {
        return Ok(());
    }
    while appliance.store.write(upload_keys::forget_expired)? {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_context_is_the_same_in_any_order_of_its_members() {
        let ordered = |value: Value| in_order(&value).to_string();
        let (one, other) = (json!({"b": [{"y": 1, "x": 2}], "a": null}), json!({"a": null, "b": [{"x": 2, "y": 1}]}));
        assert_eq!(ordered(one), ordered(other));
        assert_ne!(ordered(json!({"a": [1, 2]})), ordered(json!({"a": [2, 1]})), "lists have an order");
    }
}
