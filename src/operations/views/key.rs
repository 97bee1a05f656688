//! A client's keys, as operators see them.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::{Scopes, Timestamp},
    store::client_keys::ClientKey,
};

/// A key, as operators see it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyView {
    /// Its name.
    name: String,
    /// What it is good for.
    scopes: Scopes,
    /// When it ends by itself.
    expires_at: Option<Timestamp>,
    /// Whether that is over: it is good for nothing any more.
    expired: bool,
    /// When it was last used, within a minute.
    last_used_at: Option<Timestamp>,
    /// Until when the one before its last rotation is good, if it still is.
    old_key_until: Option<Timestamp>,
    /// When it was added.
    created_at: Timestamp,
}

impl KeyView {
    /// A key at this time.
    pub fn of(key: ClientKey, now: Timestamp) -> Self {
        Self {
            expired: key.has_expired(now),
            old_key_until: key.old_until.filter(|until| *until > now),
            name: key.name,
            scopes: key.scopes,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
            created_at: key.created_at,
        }
    }

    /// The same as people read it: name, scopes, end, last use, time of creation.
    pub fn cells(&self) -> Vec<String> {
        let told = |at: Option<Timestamp>, never: &str| at.map_or_else(|| never.to_owned(), |at| at.to_string());
        let ends = if self.expired { "expired".to_owned() } else { told(self.expires_at, "never") };
        vec![
            self.name.clone(),
            self.scopes.to_string(),
            ends,
            told(self.last_used_at, "never"),
            self.created_at.to_string(),
        ]
    }
}

/// A client's keys.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyList {
    /// By name.
    pub keys: Vec<KeyView>,
    /// Always null: a client has few.
    pub next: Option<String>,
}

/// A key that was just added, told this once.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AddedKey {
    /// Whose it is.
    pub client: String,
    /// Its name.
    pub name: String,
    /// The key.
    pub key: String,
    /// What it is good for.
    pub scopes: Scopes,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// A client's key that is another one by now, told this once.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NewKey {
    /// The client.
    pub name: String,
    /// Its key.
    pub key: String,
    /// Until when the key before it is good; left out where there was none, or where it ended at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_key_until: Option<Timestamp>,
}
