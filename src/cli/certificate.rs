//! The certificate that a server shows: read at its start, and anew at each SIGHUP.

use std::sync::Arc;

use super::error::CliError;
use crate::{
    appliance::Appliance,
    config::Config,
    model::Timestamp,
    operations,
    store::audit::Deed,
    tls::{Pair, Tls, TlsError, Validity},
};

/// What hands are shaken with; `None` where TLS ends in front.
pub(super) fn open(config: &Config) -> Result<Option<Arc<Tls>>, TlsError> {
    let files = config.server.tls.as_ref();
    files.map(|files| Ok(Arc::new(Tls::new(files.clone(), Pair::read(files)?)))).transpose()
}

/// Says where the certificate is one that callers will not take.
pub(super) fn tell(validity: Option<Validity>, now: Timestamp) {
    if let Some(fault) = validity.and_then(|validity| validity.fault(now)) {
        tracing::warn!(event = "tls.not_valid", "the certificate of `server.tls_cert` {fault}: callers refuse it");
    }
}

/// Takes both files anew, or neither. Blocks.
pub(super) fn reload(appliance: &Appliance, tls: &Arc<Tls>) -> Result<(), CliError> {
    let why = match tls.reload() {
        Ok(validity) => {
            let ends = validity.map(|validity| tracing::field::display(validity.ends));
            tracing::info!(event = "tls.changed", ends, "the certificate was taken anew");
            tell(validity, appliance.clock.now());
            "in use from here on".to_owned()
        }
        Err(error) => {
            tracing::error!(event = "tls.refused", %error, "the changed certificate cannot be used; the one before stays in use");
            format!("refused, the one before stays in use: {error}")
        }
    };
    let deed = Deed {
        who: "SIGHUP".to_owned(),
        origin: "server".to_owned(),
        action: "tls.reload",
        target: Some("certificate".to_owned()),
        why: Some(why),
    };
    Ok(operations::note(&appliance.store, deed)?)
}
