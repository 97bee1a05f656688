//! Bringing everything that a ring key wraps under the first key of the ring.
//!
//! Each piece is wrapped anew outside of the writer and put in place by a short write that asks whether the old wrapping
//! is still there. So a rotation can be interrupted at any moment and begun again, two can run at once, and nothing that
//! happens beside them is lost.

use super::KeysError;
use crate::{
    announce,
    crypto::{KeyRing, WrappedKey},
    store::{
        Store, StoreError,
        data_keys::{self, BatchKey},
        keys::{self as table, SealedSecret},
        workflows as versions,
    },
    work::workflows,
};

/// Keys that are wrapped anew in one transaction, and sealed things that are looked up at once.
const AT_ONCE: u32 = 500;

/// What a rotation did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rotated {
    /// The key that wraps everything now.
    pub key: String,
    /// Data keys of batches that were wrapped anew.
    pub batches: u64,
    /// Secrets of the appliance and of webhooks that were.
    pub secrets: u64,
    /// Workflows that batches keep that were sealed anew.
    pub workflows: u64,
    /// Keys of the ring under which nothing is: their lines may be removed from the key file.
    pub not_needed: Vec<String>,
}

/// Rotates. Everybody who seals has to do so under the ring's first key already.
pub fn rotate(store: &Store, ring: &KeyRing) -> Result<Rotated, KeysError> {
    let mut rotated = Rotated { key: ring.first_id().to_owned(), ..Rotated::default() };
    let looked_through = loop {
        let newest = store.read(table::newest_batch)?;
        let stale = rotate_batches(store, ring, &mut rotated.batches)?;
        rotate_secrets(store, ring, &mut rotated.secrets)?;
        rotate_webhooks(store, ring, &mut rotated.secrets)?;
        rotate_workflows(store, ring, &mut rotated.workflows)?;
        // A pass that found nothing saw everything up to the batch that was the newest before it.
        if !stale {
            break newest;
        }
    };
    let key = rotated.key.clone();
    store.write(move |tx| table::drop_unneeded_proofs(tx, &key, looked_through))?;
    let needed = store.read(table::proofs)?;
    let is_needed = |id: &&str| needed.iter().any(|proof| proof.key_id == *id);
    rotated.not_needed = ring.ids().filter(|id| !is_needed(id)).map(str::to_owned).collect();
    // The old wrappings of data keys are gone from the file; a reader that still needs the WAL keeps them there a little longer.
    store.truncate_wal()?;
    Ok(rotated)
}

/// Whether there was anything to do.
fn rotate_batches(store: &Store, ring: &KeyRing, count: &mut u64) -> Result<bool, KeysError> {
    let mut after = 0;
    loop {
        let stale = store.read(|connection| data_keys::under_others(connection, ring.first_id(), after, AT_ONCE))?;
        let Some(last) = stale.last() else { return Ok(after > 0) };
        after = last.batch;
        let mut pairs = Vec::with_capacity(stale.len());
        for old in stale {
            let new = ring.rewrap(&wrapped(&old.sealed), old.id)?;
            pairs.push((old, sealed(new)));
        }
        *count += store.write(move |tx| {
            let change = |(old, new): &(BatchKey, SealedSecret)| data_keys::change(tx, old, new);
            counted(pairs.iter().map(change))
        })?;
    }
}

fn rotate_secrets(store: &Store, ring: &KeyRing, count: &mut u64) -> Result<(), KeysError> {
    for (name, old) in store.read(|connection| table::secrets_under_others(connection, ring.first_id()))? {
        let new = sealed(ring.rewrap_secret(&wrapped(&old), &name)?);
        *count += u64::from(store.write(move |tx| table::change_secret(tx, &name, &old, &new))?);
    }
    Ok(())
}

fn rotate_webhooks(store: &Store, ring: &KeyRing, count: &mut u64) -> Result<(), KeysError> {
    let mut after = 0;
    loop {
        let stale =
            store.read(|connection| table::webhooks_under_others(connection, ring.first_id(), after, AT_ONCE))?;
        let Some(&(last, _)) = stale.last() else { return Ok(()) };
        after = last;
        for (client, old) in stale {
            let new = sealed(ring.rewrap_secret(&wrapped(&old), &announce::sealed_as(client))?);
            *count += u64::from(store.write(move |tx| table::change_webhook(tx, client, &old, &new))?);
        }
    }
}

fn rotate_workflows(store: &Store, ring: &KeyRing, count: &mut u64) -> Result<(), KeysError> {
    let mut after = 0;
    loop {
        let stale = store.read(|connection| versions::under_others(connection, ring.first_id(), after, AT_ONCE))?;
        let Some(last) = stale.last() else { return Ok(()) };
        after = last.version;
        for old in stale {
            let new = sealed(ring.rewrap_secret(&wrapped(&old.sealed), &workflows::sealed_as(&old.digest))?);
            *count += u64::from(store.write(move |tx| versions::change_sealing(tx, &old, &new))?);
        }
    }
}

fn counted(changes: impl Iterator<Item = Result<bool, StoreError>>) -> Result<u64, StoreError> {
    changes.map(|changed| changed.map(u64::from)).sum()
}

fn wrapped(sealed: &SealedSecret) -> WrappedKey {
    WrappedKey { key_id: sealed.key_id.clone(), sealed: sealed.sealed.clone() }
}

fn sealed(wrapped: WrappedKey) -> SealedSecret {
    SealedSecret { key_id: wrapped.key_id, sealed: wrapped.sealed }
}
