//! Whether the keys that were given are the ones that sealed this database, and the secret that they guard; changing
//! them in a running server, and bringing everything under a new one.

pub mod rotation;

use std::{sync::Arc, time::Duration};

use zeroize::Zeroizing;

use crate::{
    appliance::Appliance,
    config::{Config, NoKeys},
    crypto::{KeyRing, Locked, MacKey, OpenError, RingError, WrappedKey},
    store::{
        Store, StoreError,
        audit::{self, Deed},
        keys::{self as table, KeyProof, SealedSecret},
        stuck,
    },
};

/// Uploads that are wrapping their key under a ring that was changed get so long to commit it.
const OLD_RING_PATIENCE: Duration = Duration::from_secs(60);
const OLD_RING_LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The secret that idempotency keys are derived with.
const IDENTITY: &str = "identity";

/// Why the keys will not do.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// There are none.
    #[error(
        "there are no encryption keys: {0}\n  `dripfeed init` or `dripfeed keys generate` makes one; if this database \
         has been used before, put back the key file it was used with"
    )]
    Missing(String),
    /// Others may have them too.
    #[error("{0}")]
    OpenToOthers(String),
    /// They cannot be read.
    #[error("the encryption keys cannot be used: {0}")]
    Ring(#[from] RingError),
    /// A key that sealed something is not among them.
    #[error(
        "the key `{0}` sealed data in this database and is not in the key file: add its line back (it may stand below \
         the first one)"
    )]
    Absent(String),
    /// A key has the right id and the wrong bytes.
    #[error(
        "the key `{0}` is not the one that sealed this database, although it has the same id: put back the key file \
         that this data folder was used with"
    )]
    Wrong(String),
    /// The secret does not open.
    #[error("the appliance's own secret cannot be opened: {0}")]
    Secret(#[from] OpenError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads the key ring from the environment or the key file.
pub fn read_ring(config: &Config) -> Result<KeyRing, KeysError> {
    parsed(config.encryption.read_keys())
}

fn parsed(text: Result<Zeroizing<String>, NoKeys>) -> Result<KeyRing, KeysError> {
    let text = text.map_err(|error| match error {
        NoKeys::Unreadable(..) => KeysError::Missing(error.to_string()),
        NoKeys::OpenToOthers { .. } => KeysError::OpenToOthers(error.to_string()),
    })?;
    Ok(KeyRing::parse(&text)?)
}

/// Holds the ring against the proofs in the database, adds one for the key that seals from now on, and opens the
/// appliance's secret (or makes it, in a new database).
pub fn unlock(store: &Store, ring: &KeyRing) -> Result<Locked<MacKey>, KeysError> {
    fit(store.read(table::proofs)?, ring)?;
    let proof = ring.first_proof();
    let fresh = ring.wrap_secret(IDENTITY, MacKey::generate().as_bytes());
    let kept = store.write(move |tx| {
        table::add_proof(tx, &KeyProof { key_id: proof.key_id, proof: proof.sealed })?;
        table::keep_secret(tx, IDENTITY, SealedSecret { key_id: fresh.key_id, sealed: fresh.sealed })
    })?;
    let opened = ring.unwrap_secret(&WrappedKey { key_id: kept.key_id, sealed: kept.sealed }, IDENTITY)?;
    MacKey::from_bytes(&opened).map(Locked::new).ok_or(KeysError::Secret(OpenError::DoesNotOpen))
}

/// Whether every key that sealed something is in the ring, and is the same.
pub fn fit(proofs: Vec<KeyProof>, ring: &KeyRing) -> Result<(), KeysError> {
    for known in proofs {
        let proof = WrappedKey { key_id: known.key_id, sealed: known.proof };
        match ring.verify_proof(&proof) {
            Ok(()) => {}
            Err(OpenError::UnknownKey(id)) => return Err(KeysError::Absent(id)),
            Err(_) => return Err(KeysError::Wrong(proof.key_id)),
        }
    }
    Ok(())
}

/// Takes the changed key file into a running server. A ring that does not fit the database changes nothing.
///
/// What the server seals under is noted in the database for [`rotation`], and only when nobody holds the old ring any
/// more: an upload holds its ring until its batch is committed.
pub fn reload(appliance: &Appliance) -> Result<(), KeysError> {
    let reloaded = reload_ring(appliance);
    let why = match &reloaded {
        Ok(()) => format!("sealed under {} from here on", appliance.ring().first_id()),
        Err(error) => format!("refused, the one before stays in use: {error}"),
    };
    let deed = Deed {
        who: "SIGHUP".to_owned(),
        origin: "server".to_owned(),
        action: "keys.reload",
        target: Some("key ring".to_owned()),
        why: Some(why),
    };
    appliance.store.write(move |tx| audit::note(tx, &deed))?;
    reloaded
}

fn reload_ring(appliance: &Appliance) -> Result<(), KeysError> {
    let ring = parsed(appliance.config.encryption.read_keys_again())?;
    unlock(&appliance.store, &ring)?;
    let first = ring.first_id().to_owned();
    let old = appliance.change_ring(ring);
    let mut waited = Duration::ZERO;
    while Arc::strong_count(&old) > 1 && waited < OLD_RING_PATIENCE {
        if appliance.closing.wait(OLD_RING_LOOK_AGAIN) {
            return Ok(());
        }
        waited += OLD_RING_LOOK_AGAIN;
    }
    if Arc::strong_count(&old) > 1 {
        tracing::warn!(
            event = "keys.old_ring_held",
            "an upload still holds the old key ring; send SIGHUP again before `dripfeed keys rotate`"
        );
        return Ok(());
    }
    let keys = appliance.ring().ids().collect::<Vec<_>>().join(",");
    tracing::info!(event = "keys.changed", seals = first, keys, "the changed key ring is in use");
    Ok(note_sealing_key(appliance)?)
}

/// Notes for others what this server seals under.
pub fn note_sealing_key(appliance: &Appliance) -> Result<(), StoreError> {
    let (owner, key) = (appliance.owner, appliance.ring().first_id().to_owned());
    appliance.store.write(move |tx| stuck::note_key(tx, owner, &key))
}
