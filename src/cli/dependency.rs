//! `dripfeed dependency`: how fast each may be called, looked at and changed.

use std::path::Path;

use clap::Subcommand;
use serde::Serialize;

use super::{
    actor::actor,
    client_limits::{DEFAULT, Own, own},
    error::CliError,
    open::OpenForCommand,
    output,
};
use crate::{
    appliance::Appliance,
    downstream::{DependencyStatus, GateStatus},
    operations::dependencies::{self, RateFault},
};

/// The subcommands of `dependency`.
#[derive(Debug, Subcommand)]
pub enum DependencyCommand {
    /// List the dependencies: the rates that hold, and whether their gates are open
    List {
        #[arg(long)]
        json: bool,
    },
    /// Have one called at another rate, from the next request on; a server beside this hears of it within a second
    Rate {
        name: String,
        /// Requests a second, or the configured number again
        #[arg(value_name = "N|default", value_parser = rate)]
        rate: Own<f64>,
    },
}

fn rate(text: &str) -> Result<Own<f64>, String> {
    let is_rate = |rate: &f64| rate.is_finite() && *rate > 0.0;
    let parse = |text: &str| text.parse().ok().filter(is_rate);
    own(text, |text| parse(text).ok_or_else(|| format!("it is a number above 0, or `{DEFAULT}`")))
}

/// What all processes share of how a dependency is: what each alone knows (its calls, and how many may be under way) is the
/// server's to tell.
#[derive(Serialize)]
struct Dependency {
    name: String,
    rate_per_second: f64,
    configured_rate_per_second: f64,
    burst: u32,
    gate: GateStatus,
}

#[derive(Serialize)]
struct DependencyList {
    dependencies: Vec<Dependency>,
}

impl DependencyCommand {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        let open = OpenForCommand::open(config)?;
        match self {
            Self::List { json } => list(&open.appliance, json),
            Self::Rate { name, rate } => change(&open.appliance, &name, rate.into()),
        }
    }
}

fn list(appliance: &Appliance, json: bool) -> Result<(), CliError> {
    let configured = &appliance.config.dependencies;
    let of = |status: DependencyStatus| {
        let configured_rate_per_second = configured.get(&status.name)?.rate_per_second;
        let DependencyStatus { name, rate_per_second, burst, gate, .. } = status;
        Some(Dependency { name, rate_per_second, configured_rate_per_second, burst, gate })
    };
    let dependencies: Vec<_> = appliance.downstream.status().into_iter().filter_map(of).collect();
    if json {
        return output::json(&DependencyList { dependencies });
    }
    let rows: Vec<_> = dependencies.into_iter().map(Dependency::cells).collect();
    output::table(&["NAME", "RATE/S", "CONFIGURED", "BURST", "GATE"], &rows);
    Ok(())
}

impl Dependency {
    fn cells(self) -> Vec<String> {
        let gate = match (self.gate.until, self.gate.reason) {
            (Some(until), Some(reason)) => format!("closed until {until}: {reason}"),
            _ => "open".to_owned(),
        };
        let (rate, configured) = (self.rate_per_second.to_string(), self.configured_rate_per_second.to_string());
        vec![self.name, rate, configured, self.burst.to_string(), gate]
    }
}

fn change(appliance: &Appliance, name: &str, kept: Option<f64>) -> Result<(), CliError> {
    let rate = dependencies::set_rate(appliance, &actor(), name, kept, None)?;
    say!("{name} is called {rate} times a second at the most");
    Ok(())
}

impl From<RateFault> for CliError {
    fn from(fault: RateFault) -> Self {
        match fault {
            RateFault::Unknown(_) => Self::Failed(format!("{fault}; `dripfeed dependency list` shows all")),
            RateFault::NoRate => Self::Unusable(fault.to_string()),
            RateFault::Store(error) => error.into(),
            RateFault::Unused(error) => Self::Failed(error.to_string()),
        }
    }
}
