//! The `dripfeed` binary: parse, run, and turn an error into an exit status.

use std::process::ExitCode;

use clap::Parser;
use dripfeed::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse_from(cli::with_original_names(std::env::args_os()));
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dripfeed: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}
