//! Who may upload: added, given other limits, paused, removed.

use super::{
    Actor, Env,
    client_limits::{LimitFault, Limits},
};
use crate::{
    access::{LONGEST_NAME, is_name, key_hash, new_client_key},
    model::quota::QuotaChanges,
    operations::views::key::NewKey,
    store::{
        StoreError, audit,
        clients::{self, Removal},
    },
};

/// Why a client stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum ClientFault {
    /// There is no such client.
    #[error("there is no client of that name")]
    Missing,
    /// Not a name.
    #[error("a client's name is 1 to {LONGEST_NAME} letters, digits, `-`, `_` or `.`")]
    Name,
    /// A name is never given twice: batches carry it. `is_there`: it is a client's of today.
    #[error("there is or was a client of that name already: a name is never given twice")]
    NameTaken {
        /// Whether it was not removed.
        is_there: bool,
    },
    /// Nothing is to be changed.
    #[error("say at least one of `rows_per_run`, `workflows`, `quotas` and `paused`")]
    NothingSaid,
    /// Limits that cannot be.
    #[error(transparent)]
    Limits(#[from] LimitFault),
    /// So many of its batches are not finished.
    #[error("the client has {0} batches that are not finished: wait for them, or cancel them first")]
    Unfinished(u32),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A client that is to be.
#[derive(Debug, Clone)]
pub struct NewClient {
    /// Its name.
    pub name: String,
    /// Rows that each dispatch run grants it; `None`: as configured.
    pub rows_per_run: Option<u32>,
    /// The workflows that it may use; `None`: all.
    pub workflows: Option<Vec<String>>,
}

/// Adds a client with its first key. Blocks.
pub fn add(env: Env<'_>, actor: &Actor, new: NewClient) -> Result<NewKey, ClientFault> {
    let NewClient { name, rows_per_run, workflows } = new;
    if !is_name(&name) {
        return Err(ClientFault::Name);
    }
    let limits = Limits {
        rows_per_run: Some(rows_per_run),
        workflows: Some(workflows.clone()),
        quotas: QuotaChanges::default(),
    };
    limits.check(env.config)?;
    let key = new_client_key();
    let (of, hash, deed) = (name.clone(), key_hash(&key), actor.deed("client.add", name.as_str(), None));
    let added = env.store.write(move |tx| {
        let added = clients::add(tx, &of, hash, rows_per_run)?;
        if added {
            clients::set_workflows(tx, &of, workflows.as_deref())?;
            audit::note(tx, &deed)?;
        }
        Ok(added)
    })?;
    if !added {
        let is_there = env.store.read(|connection| clients::by_name(connection, &name))?.is_some();
        return Err(ClientFault::NameTaken { is_there });
    }
    Ok(NewKey { name, key, old_key_until: None })
}

/// What is changed of a client.
#[derive(Debug, Default)]
pub struct Change {
    /// What it may.
    pub limits: Limits,
    /// Whether none of its rows are to be claimed.
    pub paused: Option<bool>,
    /// Why.
    pub reason: Option<String>,
}

/// Changes a client; whether anything changed by it: what is so already is fine, and no news. Blocks.
pub fn change(env: Env<'_>, actor: &Actor, name: &str, change: Change) -> Result<bool, ClientFault> {
    let Change { limits, paused, reason } = change;
    if limits.are_left_out() && paused.is_none() {
        return Err(ClientFault::NothingSaid);
    }
    limits.check(env.config)?;
    let (of, default_rows, actor) = (name.to_owned(), env.config.dispatch.rows_per_client_per_run, actor.clone());
    let is_news = env.store.write(move |tx| {
        let Some(before) = clients::by_name(tx.connection, &of)? else { return Ok(None) };
        let has_others = limits.are_news_to(&before);
        if has_others {
            limits.set(tx, &of, default_rows)?;
            let why = because(limits.told(), reason.clone());
            audit::note(tx, &actor.deed("client.limit", of.as_str(), Some(why)))?;
        }
        let paused = paused.filter(|paused| *paused != before.paused_at.is_some());
        if let Some(paused) = paused {
            clients::set_paused(tx, &of, paused)?;
            let action = if paused { "client.pause" } else { "client.resume" };
            audit::note(tx, &actor.deed(action, of, reason))?;
        }
        Ok(Some(has_others || paused.is_some()))
    })?;
    let is_news = is_news.ok_or(ClientFault::Missing)?;
    if is_news {
        env.wake_work();
    }
    Ok(is_news)
}

/// What something was changed to, and why where somebody said so: one text for the audit.
pub(super) fn because(to: String, reason: Option<String>) -> String {
    match reason {
        Some(reason) => format!("{to}: {reason}"),
        None => to,
    }
}

/// Removes a client: its keys are good for nothing from here on, also for what is under way. Blocks.
pub fn remove(env: Env<'_>, actor: &Actor, name: &str) -> Result<(), ClientFault> {
    let (of, deed) = (name.to_owned(), actor.deed("client.remove", name, None));
    let removal = env.store.write(move |tx| {
        let removal = clients::remove(tx, &of)?;
        if removal == Removal::Done {
            audit::note(tx, &deed)?;
        }
        Ok(removal)
    })?;
    match removal {
        Removal::Done => Ok(()),
        Removal::Unknown => Err(ClientFault::Missing),
        Removal::Unfinished(batches) => Err(ClientFault::Unfinished(batches)),
    }
}
