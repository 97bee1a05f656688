//! Who did what, when, from where and why.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::Timestamp,
    store::{
        Store, StoreError,
        audit::{self, Cursor, Entry},
        pages::Most,
    },
};

/// A page of the audit.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditList {
    /// Newest first.
    pub entries: Vec<Entry>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

impl AuditList {
    /// The page behind this cursor, of what is not older than `since`. Blocks.
    pub fn read(store: &Store, after: Cursor, since: Timestamp, most: Most) -> Result<Self, StoreError> {
        let page = store.read(|connection| audit::page(connection, after, since, most))?;
        Ok(Self { next: page.next(|entry| Cursor::behind(entry).to_string()), entries: page.entries })
    }
}
