//! `dripfeed client`: who may upload, and how many of their rows a run grants.

use std::path::Path;

use clap::Subcommand;
use serde_json::json;

use super::{error::CliError, open::open_store, output};
use crate::{
    access,
    http::limits::ClientView,
    store::{Store, clients},
};

/// The subcommands of `client`.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Add a client; its key is printed once, and only its hash is kept
    Add {
        name: String,
        /// Rows that each dispatch run grants it [default: as configured]
        #[arg(long)]
        rows_per_run: Option<u32>,
        #[arg(long)]
        json: bool,
    },
    /// List clients
    List {
        #[arg(long)]
        json: bool,
    },
    /// Set how many rows each dispatch run grants a client
    Limit {
        name: String,
        #[arg(long)]
        rows_per_run: u32,
    },
    /// Claim none of a client's rows any more
    Pause { name: String },
    /// Claim a client's rows again
    Resume { name: String },
}

/// The longest name of a client.
const LONGEST_NAME: usize = 64;

impl ClientCommand {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        let (config, store) = open_store(config)?;
        match self {
            Self::Add { name, rows_per_run, json } => {
                let key = add(&store, &name, rows_per_run)?;
                if json {
                    return output::json(&json!({ "name": name, "key": key }));
                }
                println!("{name} was added. Its key, shown this once:\n\n  {key}\n");
                Ok(())
            }
            Self::List { json } => list(&store, json),
            Self::Limit { name, rows_per_run } => {
                let of = name.clone();
                let default_rows = config.dispatch.rows_per_client_per_run;
                known(
                    &name,
                    store.write(move |tx| clients::set_rows_per_run(tx, &of, Some(rows_per_run), default_rows))?,
                )
            }
            Self::Pause { name } => set_paused(&store, name, true),
            Self::Resume { name } => set_paused(&store, name, false),
        }
    }
}

/// Adds a client and returns its key.
pub(super) fn add(store: &Store, name: &str, rows_per_run: Option<u32>) -> Result<String, CliError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(allowed) {
        return Err(CliError::Unusable(format!(
            "a client's name is 1 to {LONGEST_NAME} letters, digits, `-`, `_` or `.`"
        )));
    }
    let key = access::new_client_key();
    let (owned, hash) = (name.to_owned(), access::key_hash(&key));
    if store.write(move |tx| clients::add(tx, &owned, hash, rows_per_run))? {
        Ok(key)
    } else {
        Err(CliError::Failed(format!("there is a client `{name}` already; `dripfeed client list` shows all")))
    }
}

fn list(store: &Store, json: bool) -> Result<(), CliError> {
    let clients = store.read(clients::list)?;
    if json {
        let clients: Vec<_> = clients.iter().map(ClientView::of).collect();
        return output::json(&json!({ "clients": clients }));
    }
    let rows: Vec<Vec<String>> = clients
        .into_iter()
        .map(|client| {
            let limit = client.rows_per_run.map_or("default".to_owned(), |rows| rows.to_string());
            let state = if client.paused_at.is_some() { "paused" } else { "active" };
            vec![client.name, limit, state.to_owned(), client.created_at.to_string()]
        })
        .collect();
    output::table(&["NAME", "ROWS/RUN", "STATE", "CREATED"], &rows);
    Ok(())
}

fn set_paused(store: &Store, name: String, paused: bool) -> Result<(), CliError> {
    let of = name.clone();
    known(&name, store.write(move |tx| clients::set_paused(tx, &of, paused))?)
}

fn known(name: &str, found: bool) -> Result<(), CliError> {
    if found {
        Ok(())
    } else {
        Err(CliError::Failed(format!("there is no client `{name}`; `dripfeed client list` shows all")))
    }
}
