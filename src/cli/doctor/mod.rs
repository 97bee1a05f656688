//! `dripfeed doctor`: everything that can be wrong with an installation, each in a line with what to do.
//!
//! It changes nothing: the database is opened to be read only, a dependency is connected to and not called, and what is
//! put into the store of files to see whether that works is taken out again.

mod around;
mod database;
mod finding;
mod local;

use std::path::Path;

use clap::Args;
use finding::{Finding, Level, Report};

use super::{error::CliError, output};
use crate::{
    clock::Clock,
    config::{Config, ConfigError},
    store::integrity::Depth,
};

const EXAMPLES: &str = "\
Examples:
  dripfeed doctor
  dripfeed doctor --full          also holds every index against its table; reads the whole database twice
  dripfeed doctor --json

Exit status 1 when something fails; warnings do not count. It changes nothing, and calls no dependency.";

/// Check configuration, keys, disk, database, files, dependencies and dispatch
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Doctor {
    /// Check the database with integrity_check instead of quick_check
    #[arg(long)]
    full: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        let report = Report::new(match Config::load(config) {
            Ok(config) => self.examine(&config),
            Err(error) => faults_of(error),
        });
        if self.json {
            output::json(&report)?
        } else {
            report.print()
        }
        match report.failed {
            0 => Ok(()),
            1 => Err(CliError::Failed("1 check failed".to_owned())),
            failed => Err(CliError::Failed(format!("{failed} checks failed"))),
        }
    }

    fn examine(&self, config: &Config) -> Vec<Finding> {
        let depth = if self.full { Depth::Full } else { Depth::Quick };
        let now = Clock::machine().now();
        let mut found = vec![Finding::ok("configuration", "no faults")];
        let idle = config.dispatch.idle.iter();
        found.extend(idle.map(|says| Finding::warn("configuration", says, "change one of the two, or leave it out")));
        found.extend(local::tokens(config));
        found.extend(local::key_file(config));
        found.extend(local::certificate(config, now));
        found.extend(local::backup_folder(config));
        let ring = local::ring(config);
        found.extend(ring.as_ref().err().cloned());
        found.push(local::data_folder(config));
        found.extend(local::others(config));
        found.push(local::disk(crate::store::sizes::of(&config.storage.data_dir), config.storage.reserve));
        found.extend(database::examine(config, ring.ok().as_ref(), depth, now));
        found.push(around::server(config));
        found.push(around::files(config));
        found.extend(config.dependencies.values().map(around::dependency));
        found.extend(around::hooks(config));
        found
    }
}

fn faults_of(error: ConfigError) -> Vec<Finding> {
    const ADVICE: &str = "correct it, then run `dripfeed doctor` again";
    match error {
        ConfigError::Faults(faults) => {
            faults.iter().map(|fault| Finding::new(Level::Fail, "configuration", fault.to_string(), ADVICE)).collect()
        }
        error => vec![Finding::new(Level::Fail, "configuration", error.to_string(), ADVICE)],
    }
}
