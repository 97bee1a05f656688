//! Whether the keys that were given are the ones that sealed this database, and the secret that they guard.

use crate::{
    config::Config,
    crypto::{KeyRing, MacKey, OpenError, RingError, WrappedKey},
    store::{
        Store, StoreError,
        keys::{self as table, KeyProof, SealedSecret},
    },
};

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
    let text = config.encryption.read_keys().map_err(|error| KeysError::Missing(error.to_string()))?;
    Ok(KeyRing::parse(&text)?)
}

/// Holds the ring against the proofs in the database, adds proofs for keys that are new, and opens the appliance's
/// secret (or makes it, in a new database).
pub fn unlock(store: &Store, ring: &KeyRing) -> Result<MacKey, KeysError> {
    for known in store.read(table::proofs)? {
        let proof = WrappedKey { key_id: known.key_id, sealed: known.proof };
        match ring.verify_proof(&proof) {
            Ok(()) => {}
            Err(OpenError::UnknownKey(id)) => return Err(KeysError::Absent(id)),
            Err(_) => return Err(KeysError::Wrong(proof.key_id)),
        }
    }
    let proofs: Vec<KeyProof> =
        ring.proofs().map(|proof| KeyProof { key_id: proof.key_id, proof: proof.sealed }).collect();
    let fresh = ring.wrap_secret(IDENTITY, MacKey::generate().as_bytes());
    let kept = store.write(move |tx| {
        for proof in &proofs {
            table::add_proof(tx, proof)?;
        }
        table::keep_secret(tx, IDENTITY, SealedSecret { key_id: fresh.key_id, sealed: fresh.sealed })
    })?;
    let opened = ring.unwrap_secret(&WrappedKey { key_id: kept.key_id, sealed: kept.sealed }, IDENTITY)?;
    MacKey::from_bytes(&opened).ok_or(KeysError::Secret(OpenError::DoesNotOpen))
}
