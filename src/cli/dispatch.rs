//! `dripfeed dispatch`: what the CronJob runs, and the one big switch.

use std::{path::Path, time::Duration};

use clap::{Args, Subcommand};

use super::{
    actor::{self, actor},
    error::CliError,
    open::open_store,
    target::Target,
};
use crate::{
    config::Config,
    operations::{Env, dispatch},
};

/// How long a dispatch run may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Ask a running server for one dispatch run.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Dispatch {
    #[command(subcommand)]
    command: Option<DispatchCommand>,
    /// The server [default: the configured address]
    #[arg(long)]
    url: Option<String>,
}

/// The one big switch: whatever else is granted, nothing is claimed while it is off.
#[derive(Debug, Subcommand)]
pub enum DispatchCommand {
    /// Claim no row of anybody any more; requests under way finish
    Pause {
        /// Shown to whoever asks why nothing moves
        #[arg(long, value_parser = actor::reason)]
        reason: Option<String>,
    },
    /// Claim rows again
    Resume,
}

impl DispatchCommand {
    fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        let (config, store) = open_store(config)?;
        let env = Env::of_store(&store, &config);
        match self {
            Self::Pause { reason } => {
                dispatch::pause(env, &actor(), reason)?;
                say!("dispatch is paused; `dripfeed dispatch resume` lets it go on");
            }
            Self::Resume => {
                dispatch::resume(env, &actor(), None)?;
                say!("dispatch goes on");
            }
        }
        Ok(())
    }
}

impl Dispatch {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        match self.command {
            Some(command) => command.run(config),
            None => ask(config, self.url.as_deref()),
        }
    }
}

/// Asks for a run.
fn ask(config: Option<&Path>, url: Option<&str>) -> Result<(), CliError> {
    let config = Config::load(config)?;
    let own = || Target::own(&config, config.server.ops_address());
    let target = url.map_or_else(own, Target::at);
    let token = config.access.dispatch_token.as_ref().or(config.access.operator_token.as_ref());
    let token = token.ok_or_else(|| {
        CliError::Unusable("there is no dispatch token: set DRIPFEED_DISPATCH_TOKEN or access.dispatch_token".into())
    })?;
    let answered = target
        .agent(TIMEOUT)?
        .post(format!("{}/ops/v1/dispatch", target.url()))
        .header("Authorization", format!("Bearer {}", token.expose()))
        .send_empty();
    let mut answer = answered.map_err(|error| CliError::Failed(target.unanswered(&error)))?;
    let body = answer.body_mut().read_to_string().map_err(|error| CliError::Failed(error.to_string()))?;
    if !answer.status().is_success() {
        let (url, status) = (target.url(), answer.status());
        return Err(CliError::Failed(format!("{url} did not run: {status}: {body}; is the token right?")));
    }
    say!("{body}");
    Ok(())
}
