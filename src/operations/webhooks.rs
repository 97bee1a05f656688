//! Where a client is told that a batch has finished.

use super::{Actor, Env};
use crate::{
    announce::{self, Target},
    appliance::Appliance,
    operations::views::webhook::NewWebhook,
    store::{
        StoreError, audit,
        clients::{self, Client},
        webhooks,
    },
};

/// Why a webhook stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum WebhookFault {
    /// There is no such client.
    #[error("there is no client of that name")]
    NoClient,
    /// It has none.
    #[error("the client has no webhook")]
    Missing,
    /// Nothing can be told there.
    #[error("that is no place for a webhook: {0}")]
    Address(&'static str),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sets a client's webhook, with a new signing secret. Blocks.
pub fn set(appliance: &Appliance, actor: &Actor, client: &str, url: String) -> Result<NewWebhook, WebhookFault> {
    announce::check_url(&url).map_err(WebhookFault::Address)?;
    let of = named(Env::of(appliance), client)?.client;
    let (secret, told) = announce::new_secret();
    // Held until the commit, as for a batch's key.
    let ring = appliance.ring();
    let sealed = Target::seal(&ring, of, &url, &secret);
    let deed = actor.deed("client.webhook", client, None);
    appliance.store.write(move |tx| {
        audit::note(tx, &deed)?;
        webhooks::set(tx, of, &sealed)
    })?;
    Ok(NewWebhook { name: client.to_owned(), url, secret: told.to_string() })
}

/// Removes a client's webhook. What is not delivered yet is given up. Blocks.
pub fn remove(env: Env<'_>, actor: &Actor, client: &str) -> Result<(), WebhookFault> {
    let (of, deed) = (named(env, client)?.client, actor.deed("client.webhook-remove", client, None));
    let removed = env.store.write(move |tx| {
        let removed = webhooks::remove(tx, of)?;
        if removed {
            audit::note(tx, &deed)?;
        }
        Ok(removed)
    })?;
    if removed { Ok(()) } else { Err(WebhookFault::Missing) }
}

/// A client by its name. Blocks.
pub fn named(env: Env<'_>, client: &str) -> Result<Client, WebhookFault> {
    env.store.read(|connection| clients::by_name(connection, client))?.ok_or(WebhookFault::NoClient)
}
