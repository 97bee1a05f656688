//! `dripfeed client`: who may upload. `client_keys` has what they come in with, `client_limits` what they may.

use std::{path::Path, time::Duration};

use clap::Subcommand;

use super::{
    actor::{self, actor},
    client_keys::{self, KeyCommand},
    client_limits::{LimitArgs, Own, workflows},
    error::CliError,
    open::{OpenForCommand, open_store},
    output,
};
use crate::{
    config::{MOST_ROWS_PER_RUN, parse_duration},
    operations::{
        Env,
        clients::{self, Change, ClientFault, NewClient},
        views::{
            client::{ClientList, ClientView},
            webhook::DeliveryList,
        },
        webhooks::{self, WebhookFault},
    },
    store::{
        clients::{Client, FIRST_KEY, list as all},
        pages::Most,
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
        /// The workflows that it may use [default: all]
        #[arg(long, value_name = "NAME,…|all", value_parser = workflows)]
        workflows: Option<Own<Vec<String>>>,
        #[arg(long)]
        json: bool,
    },
    /// List clients with what they have under way, and what they use of their quotas
    List {
        #[arg(long)]
        json: bool,
    },
    /// Set what a client may: rows a run, workflows, quotas
    Limit(LimitArgs),
    /// Claim none of a client's rows any more
    Pause {
        name: String,
        /// Kept in the audit
        #[arg(long, value_parser = actor::reason)]
        reason: Option<String>,
    },
    /// Claim a client's rows again
    Resume { name: String },
    /// Add, list and remove the keys of a client
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Make a client's key another one, printed once; the old one works for a while, so that nothing has to stop
    RotateKey {
        name: String,
        /// Which of its keys, by name
        #[arg(long, value_name = "KEY", default_value = FIRST_KEY)]
        key: String,
        /// How long the old key works: a duration like 24h; 0s is --now [default: 24h]
        #[arg(long, value_parser = parse_duration)]
        old_key_works_for: Option<Duration>,
        /// A key leaked: the old one ends at once, with its sessions, and the uploads, downloads and streams under way
        #[arg(long, conflicts_with = "old_key_works_for")]
        now: bool,
        #[arg(long)]
        json: bool,
    },
    /// Remove a client: its keys stop working at once, also for what is under way; its finished batches stay
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
        let env = Env::of_store(&store, &config);
        match self {
            Self::Add { name, rows_per_run, workflows, json } => {
                let new = NewClient { name, rows_per_run, workflows: workflows.and_then(Into::into) };
                add(env, new, json)
            }
            Self::List { json } => list(env, json),
            Self::Limit(limit) => limit.run(env),
            Self::Pause { name, reason } => {
                change(env, &name, Change { paused: Some(true), reason, ..Change::default() })
            }
            Self::Resume { name } => change(env, &name, Change { paused: Some(false), ..Change::default() }),
            Self::Key { command } => command.run(env),
            Self::RotateKey { name, key, old_key_works_for, now, json } => {
                let works_for = if now { Some(Duration::ZERO) } else { old_key_works_for };
                client_keys::rotate(env, &name, &key, works_for, json)
            }
            Self::Remove { name } => clients::remove(env, &actor(), &name).map_err(|fault| told(fault, &name)),
            Self::Webhook { name, .. } => {
                webhooks::remove(env, &actor(), &name).map_err(|fault| told_of_webhook(fault, &name))
            }
            Self::Deliveries { name, limit, json } => deliveries(env, &name, limit, json),
        }
    }
}

fn add(env: Env<'_>, new: NewClient, json: bool) -> Result<(), CliError> {
    let name = new.name.clone();
    let key = clients::add(env, &actor(), new).map_err(|fault| told(fault, &name))?;
    if json {
        return output::json(&key);
    }
    say!("{} was added. Its key, shown this once:\n\n  {}\n", key.name, key.key);
    Ok(())
}

/// Changes a client; one that does not exist is told. What somebody asked for may be so already: that is fine, and no news.
pub(super) fn change(env: Env<'_>, name: &str, change: Change) -> Result<(), CliError> {
    if !clients::change(env, &actor(), name, change).map_err(|fault| told(fault, name))? {
        say!("{name} is so already; nothing was changed");
    }
    Ok(())
}

pub(super) fn told(fault: ClientFault, name: &str) -> CliError {
    match fault {
        ClientFault::Missing => unknown(name),
        ClientFault::NameTaken { is_there: false } => CliError::Failed(format!(
            "there was a client `{name}`, and batches may still carry its name; choose another one"
        )),
        ClientFault::NameTaken { is_there: true } => {
            CliError::Failed(format!("there is a client `{name}` already; `dripfeed client list` shows all"))
        }
        ClientFault::Unfinished(batches) => CliError::Failed(format!(
            "`{name}` has {batches} batches that are not finished; nothing was changed: wait for them, or cancel them \
             first (`dripfeed batch list`, `dripfeed batch cancel ID`)"
        )),
        ClientFault::Store(error) => error.into(),
        wrong @ (ClientFault::Name | ClientFault::NothingSaid | ClientFault::Limits(_)) => {
            CliError::Unusable(wrong.to_string())
        }
    }
}

fn list(env: Env<'_>, json: bool) -> Result<(), CliError> {
    let clients = env.store.read(|connection| {
        let view = |client: &Client| ClientView::read(connection, client, env.config);
        all(connection)?.iter().map(view).collect::<Result<Vec<_>, _>>()
    })?;
    if json {
        return output::json(&ClientList { clients, next: None });
    }
    let rows: Vec<_> = clients.iter().map(ClientView::cells).collect();
    let header =
        ["NAME", "ROWS/RUN", "STATE", "PENDING", "PROCESSING", "FAILED", "UNFINISHED", "STORED", "BATCHES", "CREATED"];
    output::table(&header, &rows);
    Ok(())
}

/// The signing secret is sealed under the ring, so this needs the keys, and not just the database.
fn set_webhook(config: Option<&Path>, name: &str, url: String, json: bool) -> Result<(), CliError> {
    let open = OpenForCommand::open(config)?;
    let new = webhooks::set(&open.appliance, &actor(), name, url).map_err(|fault| told_of_webhook(fault, name))?;
    if json {
        return output::json(&new);
    }
    say!("{name} is told of its finished batches. Its signing secret, shown this once:\n\n  {}\n", new.secret);
    Ok(())
}

fn told_of_webhook(fault: WebhookFault, name: &str) -> CliError {
    match fault {
        WebhookFault::NoClient => unknown(name),
        WebhookFault::Missing => CliError::Failed(format!("`{name}` has no webhook; nothing was changed")),
        WebhookFault::Address(wrong) => CliError::Unusable(wrong.to_owned()),
        WebhookFault::Store(error) => error.into(),
    }
}

fn deliveries(env: Env<'_>, name: &str, limit: u32, json: bool) -> Result<(), CliError> {
    let client = webhooks::named(env, name).map_err(|fault| told_of_webhook(fault, name))?;
    let list = DeliveryList::read(env.store, client.client, i64::MAX, Most::of_any_length(limit))?;
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

pub(super) fn unknown(name: &str) -> CliError {
    CliError::Failed(format!("there is no client `{name}`; `dripfeed client list` shows all"))
}
