//! The running server that a command asks over HTTP: where it is, and whom the command trusts to be it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::error::CliError;
use crate::{config::Config, downstream::tls_in_words, tls::named_roots};

/// A server to be asked.
pub(super) struct Target {
    url: String,
    /// It is this machine's own, at the address that its configuration says.
    is_own: bool,
}

impl Target {
    /// The one at this URL.
    pub fn at(url: &str) -> Self {
        Self { url: url.trim_end_matches('/').to_owned(), is_own: false }
    }

    /// The one of this configuration that listens there, as seen from here.
    pub fn own(config: &Config, mut listen: SocketAddr) -> Self {
        // An address that stands for every one of the machine is none to connect to.
        if listen.ip().is_unspecified() {
            let is_v4 = listen.is_ipv4();
            listen.set_ip(if is_v4 { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) });
        }
        Self { url: format!("{}://{listen}", config.server.scheme()), is_own: true }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What asks it, and gives up after this time. Another machine's certificate is from a known CA, or one of those in the
    /// file that `SSL_CERT_FILE` names. Our own is for a name that is not this address, and is not held against it: who
    /// could listen there instead could as well where plain HTTP is spoken.
    pub fn agent(&self, timeout: Duration) -> Result<ureq::Agent, CliError> {
        let tls = TlsConfig::builder().disable_verification(self.is_own);
        let tls = match named_roots()? {
            Some(roots) => {
                let roots = roots.iter().map(|root| Certificate::from_der(root).to_owned());
                tls.root_certs(RootCerts::from(roots.collect::<Vec<_>>()))
            }
            None => tls,
        };
        let settings = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .tls_config(tls.build());
        Ok(settings.build().into())
    }

    /// Why there was no answer.
    pub fn unanswered(&self, error: &ureq::Error) -> String {
        let why = match error {
            ureq::Error::Io(error) if self.url.starts_with("https:") => tls_in_words(error),
            error => error.to_string(),
        };
        let advice = match why.contains("issuer that is not known") {
            true => "name the file of its CA in SSL_CERT_FILE",
            false => "does `dripfeed serve` run?",
        };
        format!("{} does not answer: {why}; {advice}", self.url)
    }
}
