//! The `dripfeed` binary: parse, run, and turn an error into an exit status.

use std::process::ExitCode;

use clap::FromArgMatches;
use dripfeed::{
    cli::{self, Cli},
    private,
};

/// A row on its way takes some hundred pieces of memory, and gives them back on another thread.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    private::make_nothing_for_others();
    if let Err(error) = private::shut_memory() {
        cli::complain(&format!("its memory could not be shut to others, and a core dump may hold keys: {error}"));
    }
    // Reads the variable FAILPOINTS: where a test wants this process to die.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let matches = cli::command().get_matches_from(cli::with_original_names(std::env::args_os()));
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::complain(&error);
            ExitCode::from(error.exit_status())
        }
    }
}
