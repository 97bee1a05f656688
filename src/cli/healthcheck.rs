//! `dripfeed healthcheck`: whether the local server is ready, as an exit status.

use std::{path::Path, time::Duration};

use clap::Args;

use super::{error::CliError, target::Target};
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
        let target = match self.url {
            Some(url) => Target::at(&url),
            None => own(&Config::load(config)?),
        };
        ready(&target).map_err(CliError::Failed)?;
        say!("ready");
        Ok(())
    }
}

/// The server of this configuration.
pub(super) fn own(config: &Config) -> Target {
    Target::own(config, config.server.listen)
}

/// Asks a server whether it is ready; why not.
pub(super) fn ready(target: &Target) -> Result<(), String> {
    let (agent, url) = (target.agent(TIMEOUT).map_err(|error| error.to_string())?, target.url());
    let asked = agent.get(format!("{url}/readyz")).call();
    let mut answer = asked.map_err(|error| target.unanswered(&error))?;
    if answer.status().is_success() {
        return Ok(());
    }
    let body = answer.body_mut().read_to_string().unwrap_or_default();
    let detail = serde_json::from_str::<serde_json::Value>(&body).ok();
    let detail = detail.as_ref().and_then(|problem| problem["detail"].as_str()).unwrap_or("it does not say why");
    Err(format!("{url} is not ready: {detail}"))
}
