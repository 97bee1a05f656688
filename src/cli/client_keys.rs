//! `dripfeed client key` and `client rotate-key`: what clients come in with.

use std::time::Duration;

use clap::Subcommand;

use super::{actor::actor, client::unknown, error::CliError, output};
use crate::{
    clock::Clock,
    model::Scopes,
    operations::{
        Env,
        client_keys::{self, Expiry, KeyFault, WantedKey},
        views::key::{AddedKey, KeyView},
    },
};

/// The subcommands of `client key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Give a client one more key, printed once; only its hash is kept
    Add {
        client: String,
        /// What it is called from here on
        name: String,
        /// What it is good for: one or more of upload, read, manage [default: all]
        #[arg(long, value_name = "SCOPE,…")]
        scope: Option<Scopes>,
        /// When it ends by itself: a time like 2027-01-31T00:00:00Z, or a duration like 30d [default: never]
        #[arg(long, value_name = "TIME|DURATION")]
        expires: Option<Expiry>,
        #[arg(long)]
        json: bool,
    },
    /// List a client's keys: what each is good for, until when, and when it was last used
    List {
        client: String,
        #[arg(long)]
        json: bool,
    },
    /// Remove a client's key: it stops working at once, also for what is under way
    Remove { client: String, name: String },
}

impl KeyCommand {
    pub(super) fn run(self, env: Env<'_>) -> Result<(), CliError> {
        match self {
            Self::Add { client, name, scope, expires, json } => {
                let wanted = WantedKey { name, scopes: scope, expires };
                let added = client_keys::add(env, &actor(), &client, wanted);
                tell(&added.map_err(|fault| told(fault, &client))?, json)
            }
            Self::List { client, json } => list(env, &client, json),
            Self::Remove { client, name } => {
                let removed = client_keys::remove(env, &actor(), &client, &name);
                removed.map_err(|fault| told(fault, &client))
            }
        }
    }
}

fn tell(added: &AddedKey, json: bool) -> Result<(), CliError> {
    if json {
        return output::json(added);
    }
    say!(
        "The key {} of {} is good for {}. Shown this once:\n\n  {}\n",
        added.name,
        added.client,
        added.scopes,
        added.key
    );
    if let Some(at) = added.expires_at {
        say!("It ends by itself at {at}.");
    }
    Ok(())
}

fn list(env: Env<'_>, client: &str, json: bool) -> Result<(), CliError> {
    let list = client_keys::list(env, client, Clock::machine().now()).map_err(|fault| told(fault, client))?;
    if json {
        return output::json(&list);
    }
    let rows: Vec<_> = list.keys.iter().map(KeyView::cells).collect();
    output::table(&["KEY", "GOOD FOR", "ENDS", "LAST USED", "CREATED"], &rows);
    Ok(())
}

/// Makes a client's key another one.
pub(super) fn rotate(
    env: Env<'_>,
    client: &str,
    key: &str,
    works_for: Option<Duration>,
    json: bool,
) -> Result<(), CliError> {
    let rotated = client_keys::rotate(env, &actor(), client, key, works_for);
    let new = rotated.map_err(|fault| told(fault, client))?;
    if json {
        return output::json(&new);
    }
    say!("The new key of {}, shown this once:\n\n  {}\n", new.name, new.key);
    match new.old_key_until {
        Some(until) => say!("The old one works until {until}."),
        None => say!("The old one is good for nothing any more; what it had under way ends within a second."),
    }
    Ok(())
}

fn told(fault: KeyFault, client: &str) -> CliError {
    match fault {
        KeyFault::NoClient => unknown(client),
        KeyFault::NoKey => CliError::Failed(format!(
            "`{client}` has no key of that name; `dripfeed client key list {client}` shows all"
        )),
        KeyFault::Name | KeyFault::Past | KeyFault::TooFar | KeyFault::OldTooLong => {
            CliError::Unusable(fault.to_string())
        }
        KeyFault::Store(error) => error.into(),
        fault @ (KeyFault::NameTaken | KeyFault::TooMany | KeyFault::Expired) => CliError::Failed(fault.to_string()),
    }
}
