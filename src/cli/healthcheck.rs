//! `dripfeed healthcheck`: whether the local server is ready, as an exit status.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use clap::Args;

use super::error::CliError;
use crate::config::Config;

/// A server that takes longer than this is not ready.
const TIMEOUT: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  dripfeed healthcheck                                 the server of this configuration
  dripfeed healthcheck --url http://127.0.0.1:8080
  HEALTHCHECK CMD [\"dripfeed\", \"healthcheck\"]          in a Dockerfile";

/// Whether the local server is ready: exit status 0, else 1 and why
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Healthcheck {
    /// The server [default: the configured address]
    #[arg(long)]
    url: Option<String>,
}

impl Healthcheck {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        let url = match self.url {
            Some(url) => url,
            None => local_url(&Config::load(config)?),
        };
        ready(&url).map_err(CliError::Failed)?;
        println!("ready");
        Ok(())
    }
}

/// Where the server of this configuration is, from here.
pub(super) fn local_url(config: &Config) -> String {
    let mut listen = config.server.listen;
    // An address that stands for every one of the machine is none to connect to.
    if listen.ip().is_unspecified() {
        let is_v4 = listen.is_ipv4();
        listen.set_ip(if is_v4 { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) });
    }
    format!("http://{listen}")
}

/// Asks a server whether it is ready; why not.
pub(super) fn ready(url: &str) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .build()
        .into();
    let asked = agent.get(format!("{}/readyz", url.trim_end_matches('/'))).call();
    let mut answer = asked.map_err(|error| format!("{url} does not answer: {error}; does `dripfeed serve` run?"))?;
    if answer.status().is_success() {
        return Ok(());
    }
    let body = answer.body_mut().read_to_string().unwrap_or_default();
    let detail = serde_json::from_str::<serde_json::Value>(&body).ok();
    let detail = detail.as_ref().and_then(|problem| problem["detail"].as_str()).unwrap_or("it does not say why");
    Err(format!("{url} is not ready: {detail}"))
}
