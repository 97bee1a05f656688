//! `dripfeed config`: the effective configuration, secrets redacted.

use std::path::Path;

use super::{error::CliError, output};
use crate::config::{self, Config};

/// Prints it as TOML.
pub fn run(path: Option<&Path>) -> Result<(), CliError> {
    let config = Config::load(path)?;
    output::text(&config::show(&config));
    Ok(())
}
