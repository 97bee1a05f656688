//! Opening what a command needs of the appliance.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::runtime::Runtime;

use super::error::CliError;
use crate::{
    appliance::Appliance,
    clock::Clock,
    config::Config,
    store::{Store, stuck::ProcessKind},
    telemetry::log::{self, Output},
};

/// A command does not wait longer for a collector of traces.
const TRACES_FLUSH: Duration = Duration::from_secs(2);

/// The appliance for one command, beside a live server or without one.
pub(super) struct OpenForCommand {
    /// The appliance.
    pub appliance: Arc<Appliance>,
    // Objects in a bucket are reached through it.
    _runtime: Runtime,
}

impl OpenForCommand {
    /// Opens it, and names this process as an owner of claims that can expire.
    pub fn open(config: Option<&Path>) -> Result<Self, CliError> {
        let config = Config::load(config)?;
        log::init(&config.log, Output::Stderr);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let appliance = Appliance::open(config, Clock::machine(), ProcessKind::Command, runtime.handle())?;
        Ok(Self { appliance, _runtime: runtime })
    }
}

impl Drop for OpenForCommand {
    fn drop(&mut self) {
        // What it still holds expires; its name is only kept while it may hold something.
        let _ = self.appliance.leave();
        self.appliance.close();
        if let Some(traces) = &self.appliance.traces {
            traces.flush(TRACES_FLUSH);
        }
    }
}

/// Just the database, for commands that look at or change what is not sealed.
pub(super) fn open_store(config: Option<&Path>) -> Result<(Config, Store), CliError> {
    let config = Config::load(config)?;
    // What it does is an event, as it is in a server.
    log::init(&config.log, Output::Stderr);
    let store = Store::open(&config.storage.data_dir, config.database, Clock::machine())?;
    Ok((config, store))
}
