//! What people do, each once: whoever does it, and by whichever door.
//!
//! An operation is one transaction with its entry in the audit, the event that tells of it once it is on disk, and
//! whoever has to hear of it. HTTP and the command line parse, call one of these, and show what came of it: neither opens a
//! write transaction of its own, and neither knows a rule that the other does not. [`views`] is what both show.

pub mod batches;
pub mod callers;
pub mod client_keys;
pub mod client_limits;
pub mod clients;
pub mod dependencies;
pub mod dispatch;
pub mod operators;
pub mod retries;
pub mod rows;
pub mod sessions;
pub mod views;
pub mod webhooks;

use crate::{
    appliance::Appliance,
    config::Config,
    store::{
        Store, StoreError,
        audit::{self, Deed},
    },
};

/// Somebody who does something, as the audit knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// An operator's name, a client's behind `client:`, or the system user of a command behind `uid:`.
    pub who: String,
    /// Where they are: an address, or `command`.
    pub origin: String,
    /// Whether it is a client, at its own batches.
    pub is_client: bool,
}

impl Actor {
    /// What they are about to do.
    pub fn deed(&self, action: &'static str, target: impl Into<String>, why: Option<String>) -> Deed {
        Deed { who: self.who.clone(), origin: self.origin.clone(), action, target: Some(target.into()), why }
    }

    /// The same for what can be undone: what clients do to their own is theirs then, and no entry of the audit.
    fn undoable(&self, action: &'static str, target: impl Into<String>, why: Option<String>) -> Option<Deed> {
        (!self.is_client).then(|| self.deed(action, target, why))
    }
}

/// What an operation works on: the database, under its configuration, and the process whose threads have to hear of it. A
/// command that needs no keys has no such threads: a server beside it finds out by itself.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    /// The database.
    pub store: &'a Store,
    /// The configuration.
    pub config: &'a Config,
    process: Option<&'a Appliance>,
}

impl<'a> Env<'a> {
    /// All of an open appliance.
    pub fn of(appliance: &'a Appliance) -> Self {
        Self { store: &appliance.store, config: &appliance.config, process: Some(appliance) }
    }

    /// The database alone.
    pub fn of_store(store: &'a Store, config: &'a Config) -> Self {
        Self { store, config, process: None }
    }

    /// Rows may be there to be claimed.
    fn wake_work(&self) {
        if let Some(process) = self.process {
            process.work_bell.ring();
        }
    }

    /// There is something to carry out piece by piece.
    fn wake_chores(&self) {
        if let Some(process) = self.process {
            process.chores_bell.ring();
        }
    }
}

/// Notes something of which nothing else is kept. Blocks.
pub fn note(store: &Store, deed: Deed) -> Result<(), StoreError> {
    store.write(move |tx| audit::note(tx, &deed))
}
