//! `dripfeed dispatch`: what the CronJob runs.

use std::{path::Path, time::Duration};

use clap::Args;

use super::error::CliError;
use crate::config::Config;

/// How long a dispatch run may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Ask a running server for one dispatch run.
#[derive(Debug, Args)]
pub struct Dispatch {
    /// The server [default: the configured address]
    #[arg(long)]
    url: Option<String>,
}

impl Dispatch {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        let config = Config::load(config)?;
        let url = self.url.unwrap_or_else(|| format!("http://{}", config.server.listen));
        let token = config.access.dispatch_token.as_ref().or(config.access.operator_token.as_ref());
        let token = token.ok_or_else(|| {
            CliError::Unusable(
                "there is no dispatch token: set DRIPFEED_DISPATCH_TOKEN or access.dispatch_token".into(),
            )
        })?;
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).proxy(None).max_redirects(0).build().into();
        let answered = agent
            .post(format!("{}/ops/v1/dispatch", url.trim_end_matches('/')))
            .header("Authorization", format!("Bearer {}", token.expose()))
            .send_empty();
        let mut answer = answered.map_err(|error| {
            CliError::Failed(format!("{url} did not run: {error}; is the server up, and the token right?"))
        })?;
        let body = answer.body_mut().read_to_string().map_err(|error| CliError::Failed(error.to_string()))?;
        println!("{body}");
        Ok(())
    }
}
