//! `dripfeed client`: who may upload, how many of their rows a run grants, and their keys.

use std::{path::Path, time::Duration};

use clap::Subcommand;

use super::{
    deed::deed,
    error::CliError,
    open::{OpenForCommand, open_store},
    output,
};
use crate::{
    access::{self, LONGEST_NAME, is_name},
    announce,
    config::{Config, MOST_ROWS_PER_RUN, parse_duration},
    http::{
        clients::{ClientList, ClientView, NewKey, OLD_KEY_WORKS_AT_MOST, OLD_KEY_WORKS_FOR},
        webhooks::{self, DeliveryList},
    },
    store::{
        Store, StoreError, Tx, audit,
        clients::{self, Client, Removal},
        error,
    },
};

/// The subcommands of `client`.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Add a client; its key is printed once, and only its hash is kept
    Add {
        name: String,
        /// Rows that each dispatch run grants it [default: as configured]
        #[arg(long, value_parser = clap::value_parser!(u32).range(..=i64::from(MOST_ROWS_PER_RUN)))]
        rows_per_run: Option<u32>,
        #[arg(long)]
        json: bool,
    },
    /// List clients with what they have under way
    List {
        #[arg(long)]
        json: bool,
    },
    /// Set how many rows each dispatch run grants a client
    Limit {
        name: String,
        #[arg(long, value_parser = clap::value_parser!(u32).range(..=i64::from(MOST_ROWS_PER_RUN)))]
        rows_per_run: u32,
    },
    /// Claim none of a client's rows any more
    Pause {
        name: String,
        /// Kept in the audit
        #[arg(long)]
        reason: Option<String>,
    },
    /// Claim a client's rows again
    Resume { name: String },
    /// Give a client another key, printed once; the old one works for a while, so that nothing has to stop
    RotateKey {
        name: String,
        /// How long the old key works: a duration like 24h; 0s ends it at once [default: 24h]
        #[arg(long, value_parser = parse_duration)]
        old_key_works_for: Option<Duration>,
        #[arg(long)]
        json: bool,
    },
    /// Remove a client: its keys stop working, its finished batches stay
    Remove { name: String },
    /// Set where a client is told that a batch has finished; the signing secret is printed once
    #[command(
        after_help = "Deliveries are signed as Standard Webhooks has it (webhook-id, webhook-timestamp, webhook-signature)."
    )]
    Webhook {
        name: String,
        /// https://HOST/PATH, or http:// on this machine
        #[arg(long, required_unless_present = "remove", conflicts_with = "remove")]
        url: Option<String>,
        /// Tell it no more
        #[arg(long)]
        remove: bool,
        #[arg(long)]
        json: bool,
    },
    /// List what a client's webhook was told, newest first
    Deliveries {
        name: String,
        /// Entries at most
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[arg(long)]
        json: bool,
    },
}

impl ClientCommand {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        if let Self::Webhook { name, url: Some(url), json, .. } = self {
            return set_webhook(config, &name, url, json);
        }
        let (config, store) = open_store(config)?;
        match self {
            Self::Add { name, rows_per_run, json } => {
                let key = add(&store, &name, rows_per_run)?;
                let key = NewKey { name, key, old_key_until: None };
                if json {
                    return output::json(&key);
                }
                println!("{} was added. Its key, shown this once:\n\n  {}\n", key.name, key.key);
                Ok(())
            }
            Self::List { json } => list(&config, &store, json),
            Self::Limit { name, rows_per_run } => {
                let default_rows = config.dispatch.rows_per_client_per_run;
                let to = format!("{rows_per_run} rows a run");
                change(&store, &name, "client.limit", Some(to), move |tx, name| {
                    clients::set_rows_per_run(tx, name, Some(rows_per_run), default_rows)
                })
            }
            Self::Pause { name, reason } => {
                change(&store, &name, "client.pause", reason, |tx, name| clients::set_paused(tx, name, true))
            }
            Self::Resume { name } => {
                change(&store, &name, "client.resume", None, |tx, name| clients::set_paused(tx, name, false))
            }
            Self::RotateKey { name, old_key_works_for, json } => rotate_key(&store, name, old_key_works_for, json),
            Self::Remove { name } => remove(&store, &name),
            Self::Webhook { name, .. } => remove_webhook(&store, &name),
            Self::Deliveries { name, limit, json } => deliveries(&store, &name, limit, json),
        }
    }
}

/// Adds a client and returns its key.
pub(super) fn add(store: &Store, name: &str, rows_per_run: Option<u32>) -> Result<String, CliError> {
    if !is_name(name) {
        return Err(CliError::Unusable(format!(
            "a client's name is 1 to {LONGEST_NAME} letters, digits, `-`, `_` or `.`"
        )));
    }
    let key = access::new_client_key();
    let (owned, hash) = (name.to_owned(), access::key_hash(&key));
    let added = store.write(move |tx| {
        let added = clients::add(tx, &owned, hash, rows_per_run)?;
        if added {
            audit::note(tx, &deed("client.add", owned, None))?;
        }
        Ok(added)
    })?;
    if added {
        return Ok(key);
    }
    let removed = store.read(|connection| clients::by_name(connection, name))?.is_none();
    Err(CliError::Failed(match removed {
        true => format!("there was a client `{name}`, and batches may still carry its name; choose another one"),
        false => format!("there is a client `{name}` already; `dripfeed client list` shows all"),
    }))
}

fn list(config: &Config, store: &Store, json: bool) -> Result<(), CliError> {
    let default_rows = config.dispatch.rows_per_client_per_run;
    let now = crate::clock::Clock::machine().now();
    let clients = store.read(|connection| {
        let view = |client: &Client| {
            let work = clients::work_of(connection, client.client)?;
            Ok::<_, StoreError>(ClientView::of(client, work, default_rows, now))
        };
        clients::list(connection)?.iter().map(view).collect::<Result<Vec<_>, _>>()
    })?;
    if json {
        return output::json(&ClientList { clients, next: None });
    }
    let rows: Vec<_> = clients.iter().map(ClientView::cells).collect();
    output::table(&["NAME", "ROWS/RUN", "STATE", "PENDING", "PROCESSING", "FAILED", "CREATED"], &rows);
    Ok(())
}

/// Changes a client and notes it; one that does not exist is told.
fn change(
    store: &Store,
    name: &str,
    action: &'static str,
    why: Option<String>,
    make: impl FnOnce(&Tx<'_>, &str) -> error::Result<bool> + Send + 'static,
) -> Result<(), CliError> {
    let of = name.to_owned();
    let known = store.write(move |tx| {
        let known = make(tx, &of)?;
        if known {
            audit::note(tx, &deed(action, of, why))?;
        }
        Ok(known)
    })?;
    if known { Ok(()) } else { Err(unknown(name)) }
}

fn rotate_key(store: &Store, name: String, works_for: Option<Duration>, json: bool) -> Result<(), CliError> {
    let works_for = works_for.unwrap_or(OLD_KEY_WORKS_FOR);
    if works_for > OLD_KEY_WORKS_AT_MOST {
        return Err(CliError::Unusable("--old-key-works-for is at most 90d".into()));
    }
    let key = access::new_client_key();
    let (of, hash) = (name.clone(), access::key_hash(&key));
    let until = store.write(move |tx| {
        let until = tx.now.after(works_for);
        let rotated = clients::rotate_key(tx, &of, hash, until)?;
        if rotated {
            audit::note(tx, &deed("client.rotate-key", of, Some(format!("the old key works until {until}"))))?;
        }
        Ok(rotated.then_some(until))
    })?;
    let Some(until) = until else { return Err(unknown(&name)) };
    let key = NewKey { name, key, old_key_until: Some(until) };
    if json {
        return output::json(&key);
    }
    println!("The new key of {}, shown this once:\n\n  {}\n\nThe old one works until {until}.", key.name, key.key);
    Ok(())
}

fn remove(store: &Store, name: &str) -> Result<(), CliError> {
    let of = name.to_owned();
    let removal = store.write(move |tx| {
        let removal = clients::remove(tx, &of)?;
        if removal == Removal::Done {
            audit::note(tx, &deed("client.remove", of, None))?;
        }
        Ok(removal)
    })?;
    match removal {
        Removal::Done => Ok(()),
        Removal::Unknown => Err(unknown(name)),
        Removal::Unfinished(batches) => Err(CliError::Failed(format!(
            "`{name}` has {batches} batches that are not finished; nothing was changed: wait for them, or cancel them \
             first (`dripfeed batch list`, `dripfeed batch cancel ID`)"
        ))),
    }
}

/// The signing secret is sealed under the ring, so this needs the keys, and not just the database.
fn set_webhook(config: Option<&Path>, name: &str, url: String, json: bool) -> Result<(), CliError> {
    announce::check_url(&url).map_err(|wrong| CliError::Unusable(wrong.to_owned()))?;
    let open = OpenForCommand::open(config)?;
    let client = named(&open.appliance.store, name)?;
    let new = webhooks::set(&open.appliance, &client, url, deed("client.webhook", name, None))?;
    if json {
        return output::json(&new);
    }
    println!("{name} is told of its finished batches. Its signing secret, shown this once:\n\n  {}\n", new.secret);
    Ok(())
}

fn remove_webhook(store: &Store, name: &str) -> Result<(), CliError> {
    let client = named(store, name)?;
    if webhooks::remove(store, &client, deed("client.webhook-remove", name, None))? {
        return Ok(());
    }
    Err(CliError::Failed(format!("`{name}` has no webhook; nothing was changed")))
}

fn deliveries(store: &Store, name: &str, limit: u32, json: bool) -> Result<(), CliError> {
    let client = named(store, name)?;
    let list = DeliveryList::read(store, client.client, i64::MAX, limit)?;
    if json {
        return output::json(&list);
    }
    let rows = list.deliveries.into_iter().map(|it| {
        let next = it.next_attempt_at.map(|at| format!("next try {at}"));
        let status = it.http_status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        let said = it.error.or(next).unwrap_or_else(|| "-".to_owned());
        vec![it.id, it.batch.to_string(), it.status, it.attempts.to_string(), status, it.created_at.to_string(), said]
    });
    output::table(&["DELIVERY", "BATCH", "STATUS", "TRIES", "HTTP", "CREATED", "LAST"], &rows.collect::<Vec<_>>());
    Ok(())
}

fn named(store: &Store, name: &str) -> Result<Client, CliError> {
    store.read(|connection| clients::by_name(connection, name))?.ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> CliError {
    CliError::Failed(format!("there is no client `{name}`; `dripfeed client list` shows all"))
}
