//! `dripfeed alerts`: what is wrong, and whether messages about it arrive.

use std::path::Path;

use clap::Subcommand;
use serde::Serialize;

use super::{error::CliError, open::open_store, output};
use crate::{
    clock::Clock,
    config::Config,
    operations::views::alert::AlertView,
    store::{Store, alerts},
    telemetry::alerts::hooks,
};

/// Alerts that are listed.
const LISTED: u32 = 1_000;

/// The subcommands of `alerts`.
#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// List what is wrong, as the last check of the server found it
    List {
        /// Also what is over, of the last 30 days
        #[arg(long)]
        all: bool,
        #[arg(long)]
        json: bool,
    },
    /// Send each hook a message that says nothing but that it arrives
    Test {
        /// Only this hook, by its name in the configuration
        hook: Option<String>,
    },
}

#[derive(Serialize)]
struct AlertList {
    alerts: Vec<AlertView>,
}

impl AlertsCommand {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        match self {
            Self::List { all, json } => list(&open_store(config)?.1, all, json),
            Self::Test { hook } => test(&Config::load(config)?, hook.as_deref()),
        }
    }
}

fn list(store: &Store, all: bool, json: bool) -> Result<(), CliError> {
    let found = store.read(|connection| {
        let mut found = alerts::firing(connection, LISTED)?;
        if all {
            found.extend(alerts::resolved(connection, LISTED)?);
        }
        Ok(found)
    })?;
    let alerts: Vec<AlertView> = found.into_iter().map(AlertView::from).collect();
    if json {
        return output::json(&AlertList { alerts });
    }
    for alert in &alerts {
        let over = alert.resolved_at.map(|at| format!(", over since {at}")).unwrap_or_default();
        say!("{}  since {}{over}\n  {}\n  {}", alert.alert.as_str(), alert.since, alert.summary, alert.hint);
        for command in &alert.what_to_do {
            say!("    {command}");
        }
    }
    if alerts.is_empty() {
        say!("no alert fires");
    }
    Ok(())
}

fn test(config: &Config, only: Option<&str>) -> Result<(), CliError> {
    let all = config.alerts.hooks.values();
    let hooks: Vec<_> = all.filter(|hook| only.is_none_or(|only| hook.name == only)).collect();
    if hooks.is_empty() {
        return Err(CliError::Unusable(match only {
            Some(name) => format!("there is no hook `{name}`; `dripfeed config` shows all"),
            None => "there is no hook: add [alerts.hooks.NAME] with a `url`".to_owned(),
        }));
    }
    let mut in_vain = 0;
    for hook in hooks {
        match hooks::try_out(hook, &config.alerts, &Clock::machine()) {
            Ok(status) => say!("{}: taken ({status})", hook.name),
            Err(trouble) => {
                say!("{}: not taken: {trouble}", hook.name);
                in_vain += 1;
            }
        }
    }
    match in_vain {
        0 => Ok(()),
        1 => Err(CliError::Failed("1 hook did not take it".to_owned())),
        more => Err(CliError::Failed(format!("{more} hooks did not take it"))),
    }
}
