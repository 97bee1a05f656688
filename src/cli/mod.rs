//! The command line: one file a command, all of them thin.

// First, for its macro.
#[macro_use]
mod output;

mod actor;
pub mod alerts;
pub mod audit;
pub mod backup;
pub mod backups;
pub mod batch;
mod certificate;
pub mod client;
mod client_keys;
mod client_limits;
pub mod completions;
pub mod demo;
pub mod dependency;
pub mod dispatch;
mod docs;
pub mod doctor;
pub mod error;
mod examples;
pub mod healthcheck;
pub mod init;
pub mod keys;
mod open;
pub mod operator;
mod original;
pub mod purge;
pub mod restore;
pub mod row;
pub mod serve;
mod sessions;
pub mod show_config;
mod signals;
pub mod simulator;
pub mod stuck;
mod target;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
pub use error::CliError;
pub use examples::command;
pub use original::with_original_names;
pub use output::error as complain;

/// Feeds the rows of big CSV files through rate-limited APIs: nothing lost, nothing done twice, never too fast.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// The configuration file [default: $DRIPFEED_CONFIG, else dripfeed.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole thing on this machine, with nothing set up
    Demo(demo::Demo),
    /// Write a commented dripfeed.toml and a key file
    Init(init::Init),
    /// Serve the API; extract, dispatch and work
    Serve(serve::Serve),
    /// Ask a running server for one dispatch run; or stop all dispatch, and let it go on
    Dispatch(dispatch::Dispatch),
    /// Look at how fast dependencies may be called, or change it
    Dependency {
        #[command(subcommand)]
        command: dependency::DependencyCommand,
    },
    /// Look at batches, or change them
    Batch {
        #[command(subcommand)]
        command: batch::BatchCommand,
    },
    /// Look at one row, or work it here and now
    Row {
        #[command(subcommand)]
        command: row::RowCommand,
    },
    /// List claims that expired; free them with --apply
    Stuck(stuck::Stuck),
    /// Add and change clients
    Client {
        #[command(subcommand)]
        command: client::ClientCommand,
    },
    Backup(backup::Backup),
    Backups(backups::Backups),
    Restore(restore::Restore),
    Purge(purge::Purge),
    Doctor(doctor::Doctor),
    Docs(docs::Docs),
    Healthcheck(healthcheck::Healthcheck),
    Completions(completions::Completions),
    /// Add, list and remove operators by name
    Operator {
        #[command(subcommand)]
        command: operator::OperatorCommand,
    },
    /// List who is signed in on the page, and end it
    Sessions {
        #[command(subcommand)]
        command: sessions::SessionsCommand,
    },
    /// List what is wrong, and try whether messages about it arrive
    Alerts {
        #[command(subcommand)]
        command: alerts::AlertsCommand,
    },
    /// Tell who did what
    Audit(audit::Audit),
    /// Make, list and rotate encryption keys
    Keys {
        #[command(subcommand)]
        command: keys::KeysCommand,
    },
    /// Play the downstream: three calls, a rate limit, latency and faults
    Simulator(simulator::SimulatorCommand),
    /// Show the effective configuration, secrets redacted
    Config,
}

/// Runs a command to its end.
pub fn run(cli: Cli) -> Result<(), CliError> {
    let config = cli.config.as_deref();
    let done = match cli.command {
        Command::Demo(demo) => demo.run(),
        Command::Init(init) => init.run(),
        Command::Serve(serve) => serve.run(config),
        Command::Dispatch(dispatch) => dispatch.run(config),
        Command::Dependency { command } => command.run(config),
        Command::Batch { command } => command.run(config),
        Command::Row { command } => command.run(config),
        Command::Stuck(stuck) => stuck.run(config),
        Command::Client { command } => command.run(config),
        Command::Backup(backup) => backup.run(config),
        Command::Backups(backups) => backups.run(config),
        Command::Restore(restore) => restore.run(config),
        Command::Purge(purge) => purge.run(config),
        Command::Doctor(doctor) => doctor.run(config),
        Command::Docs(docs) => docs.run(),
        Command::Healthcheck(healthcheck) => healthcheck.run(config),
        Command::Completions(completions) => completions.run(),
        Command::Operator { command } => command.run(config),
        Command::Sessions { command } => command.run(config),
        Command::Alerts { command } => command.run(config),
        Command::Audit(audit) => audit.run(config),
        Command::Keys { command } => command.run(config),
        Command::Simulator(simulator) => simulator.run(),
        Command::Config => show_config::run(config),
    };
    done.and_then(|()| output::arrived())
}
