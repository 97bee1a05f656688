//! The `dripfeed` binary: parse, run, and turn an error into an exit status.

use std::process::ExitCode;

use clap::FromArgMatches;
use dripfeed::cli::{self, Cli};

fn main() -> ExitCode {
    // Reads the variable FAILPOINTS: where a test wants this process to die.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let matches = cli::command().get_matches_from(cli::with_original_names(std::env::args_os()));
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dripfeed: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}
