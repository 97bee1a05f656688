//! The signals that a server hears: SIGHUP for what has changed beside it, SIGTERM and SIGINT for its end.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::certificate;
use crate::{appliance::Appliance, keys, tls::Tls};

/// Takes changed keys and a changed certificate at each SIGHUP.
pub(super) async fn hear_hangups(appliance: Arc<Appliance>, tls: Option<Arc<Tls>>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::error!(
            event = "signal.unheard",
            "SIGHUP cannot be heard: changed keys and certificates are taken at the next start"
        );
        return;
    };
    while hangup.recv().await.is_some() {
        let (appliance, tls) = (appliance.clone(), tls.clone());
        let reloaded = tokio::task::spawn_blocking(move || {
            let noted = tls.map_or(Ok(()), |tls| certificate::reload(&appliance, &tls));
            (keys::reload(&appliance), noted)
        });
        let Ok((keys, noted)) = reloaded.await else { continue };
        if let Err(error) = keys {
            tracing::error!(
                event = "keys.refused",
                %error,
                "the changed key ring cannot be used; the one before stays in use"
            );
        }
        if let Err(error) = noted {
            tracing::error!(event = "audit.not_noted", %error, "that a certificate was taken anew could not be noted");
        }
    }
}

/// Returns when the process is told to end.
pub(super) async fn told_to_end() {
    let terminate = signal(SignalKind::terminate());
    let interrupt = signal(SignalKind::interrupt());
    match (terminate, interrupt) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => tracing::error!(event = "signal.unheard", "signals cannot be heard; ending"),
    }
}
