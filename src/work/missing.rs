//! Batches whose workflow calls somebody whom the configuration does not know any more stand still, and say why.
//!
//! Looked at when a server starts, before anything is claimed, since the configuration is read then and at no other time.
//! What stood still for this alone goes on by itself at the start that knows the dependency again: nobody decided on that
//! pause, so nobody has to be asked. A pause that somebody made, before or since, is theirs.

use super::workflows::VersionError;
use crate::{
    appliance::Appliance,
    store::{StoreError, workflows},
};

/// Pauses what cannot be worked, and lets go on what can be again.
pub fn look(appliance: &Appliance) -> Result<(), StoreError> {
    for known in appliance.store.read(workflows::of_unfinished)? {
        let version = known.version;
        match why_not(appliance, version)? {
            None => {
                for batch in appliance.store.write(move |tx| workflows::resume_batches(tx, version))? {
                    tracing::info!(event = "batch.dependency_back", %batch, "a batch goes on: what it calls is configured again");
                }
            }
            Some(reason) => {
                let kept = reason.clone();
                for batch in appliance.store.write(move |tx| workflows::pause_batches(tx, version, &kept))? {
                    tracing::warn!(event = "batch.dependency_missing", %batch, reason, "a batch stands still: what it calls is not configured");
                }
            }
        }
    }
    Ok(())
}

/// Why rows of this version cannot be worked, where that is so.
fn why_not(appliance: &Appliance, version: i64) -> Result<Option<String>, StoreError> {
    match appliance.workflow(version) {
        Ok(kept) => Ok(kept.way().err().map(ToString::to_string)),
        Err(VersionError::Store(error)) => Err(error),
        Err(error) => Ok(Some(error.to_string())),
    }
}
