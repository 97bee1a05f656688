//! Where a client is told that a batch has finished, and what came of it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::Timestamp,
    store::{
        Store, StoreError,
        deliveries::{self, Delivery},
        pages::Most,
    },
};

/// A webhook that was just set, with its signing secret, told this once.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NewWebhook {
    /// The client.
    pub name: String,
    /// The address, as it was given.
    pub url: String,
    /// What deliveries are signed with.
    pub secret: String,
}

/// A webhook, as it may be shown.
#[derive(Serialize, JsonSchema)]
pub struct WebhookView {
    /// The address, without what is behind its host.
    pub url: String,
    /// Since when.
    pub created_at: Timestamp,
}

/// A page of announcements.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeliveryList {
    /// Newest first.
    pub deliveries: Vec<Delivery>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

impl DeliveryList {
    /// A client's announcements before `before`. Blocks.
    pub fn read(store: &Store, client: i64, before: i64, most: Most) -> Result<Self, StoreError> {
        let page = store.read(|connection| deliveries::page(connection, client, before, most))?;
        Ok(Self { next: page.next(|last| last.delivery.to_string()), deliveries: page.entries })
    }
}
