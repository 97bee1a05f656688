//! What is left of uploads that did not become a batch: cleared away at once, when the outage is over that stood in the
//! way, or by the next server. With it go the keys that have been remembered for long enough.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{UploadError, object_name, once};
use crate::{
    appliance::Appliance,
    store::uploads::{self, Upload},
};

/// How often it is tried to clear away what is left of uploads.
const CLEAR_AWAY_EVERY: Duration = Duration::from_secs(5);

pub(super) fn discard(appliance: &Appliance, upload: Upload) -> Result<(), UploadError> {
    appliance.objects.delete(&object_name(upload.id))?;
    while !appliance.store.write(move |tx| uploads::forget_piece(tx, upload))? {}
    Ok(())
}

pub(super) fn not_cleared(upload: Upload, error: &UploadError) {
    tracing::warn!(
        event = "upload.not_cleared",
        upload = %upload.id,
        %error,
        "a refused upload could not be cleared away yet"
    );
}

/// Clears away what uploads of dead servers left behind. For a server that has just started.
pub fn sweep(appliance: &Appliance) -> Result<(), UploadError> {
    let abandoned = appliance.store.read(|connection| uploads::abandoned(connection, appliance.owner))?;
    for upload in abandoned {
        tracing::warn!(event = "upload.abandoned", upload = %upload.id, "an upload that broke off is cleared away");
        discard(appliance, upload)?;
    }
    // What was only half written has no name yet that could be deleted.
    appliance.objects.sweep()?;
    Ok(())
}

/// Uploads that this process gave up and could not clear away yet. They are noted in the database too, for the next
/// server; that one cannot tell them from uploads under way as long as this one runs.
#[derive(Default)]
pub struct GivenUp(Mutex<Vec<Upload>>);

impl GivenUp {
    pub(super) fn add(&self, upload: Upload) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(upload);
    }

    fn take(&self) -> Option<Upload> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// Clears away what is left of given up uploads and keys that have expired, as soon as that is possible, until the appliance closes.
pub fn clear_away(appliance: &Appliance) {
    while !appliance.closing.wait(CLEAR_AWAY_EVERY) {
        while let Some(upload) = appliance.given_up.take() {
            if let Err(error) = discard(appliance, upload) {
                not_cleared(upload, &error);
                appliance.given_up.add(upload);
                break;
            }
            tracing::info!(event = "upload.cleared", upload = %upload.id, "a refused upload is cleared away");
        }
        if let Err(error) = once::forget_expired(appliance) {
            tracing::warn!(
                event = "upload_keys.not_forgotten",
                %error,
                "expired keys of uploads could not be forgotten yet"
            );
        }
    }
}
