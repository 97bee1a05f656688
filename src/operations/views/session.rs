//! Who is signed in on the page.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    config::Access,
    model::Timestamp,
    operations::callers::Badge,
    store::{
        Store, StoreError,
        pages::Most,
        sessions::{self, OpenSession},
    },
};

/// A page of the sessions that are good.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SessionList {
    /// Newest first.
    pub sessions: Vec<OpenSession>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

impl SessionList {
    /// The page behind this cursor. A session whose key is good no more is none. Blocks.
    pub fn read(store: &Store, access: &Access, now: Timestamp, after: i64, most: Most) -> Result<Self, StoreError> {
        store.read(|connection| {
            let page = sessions::page(connection, now, after, most)?;
            let next = page.next(|session| session.id.clone());
            let mut good = Vec::new();
            for session in page.entries {
                let badge = Badge { key: session.key_hash, session: None };
                if badge.holder(access, connection, now)?.is_some() {
                    good.push(session);
                }
            }
            Ok(Self { sessions: good, next })
        })
    }
}
