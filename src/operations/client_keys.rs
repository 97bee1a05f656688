//! What a client comes in with: keys by name, each good for what its scopes say. They are added, rotated and removed.

use std::{str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Actor, Env};
use crate::{
    access::{LONGEST_NAME, is_name, key_hash, new_client_key},
    config::parse_duration,
    model::{Scopes, Timestamp},
    operations::views::key::{AddedKey, KeyList, KeyView, NewKey},
    store::{
        Store, StoreError,
        audit::{self, Deed},
        client_keys::{self, Added, MOST_KEYS},
        clients,
    },
};

/// How long a client's old key is good beside its new one, where nobody says.
const OLD_KEY_WORKS_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// And at most.
const OLD_KEY_WORKS_AT_MOST: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// A key that ends by itself does so within this time: what lies further ahead is a slip, and no date that is written like the others.
const ENDS_WITHIN: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A key to be added.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WantedKey {
    /// Its name.
    pub name: String,
    /// What it is good for; everything where nobody says.
    #[serde(default)]
    pub scopes: Option<Scopes>,
    /// When it ends by itself: a time, or a duration like `30d` from now; never where nobody says.
    #[serde(default)]
    pub expires: Option<Expiry>,
}

/// When a key ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum Expiry {
    /// At this time.
    At(Timestamp),
    /// So long after it was added.
    After(Duration),
}

impl Expiry {
    fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::After(duration) => now.after(duration),
        }
    }
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| "is a time like 2027-01-31T00:00:00Z, or a duration like 30d".to_owned();
        text.parse().map(Self::At).or_else(|()| parse_duration(text).map(Self::After)).map_err(wrong)
    }
}

impl TryFrom<String> for Expiry {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Why nothing became of it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// There is no such client.
    #[error("there is no client of that name")]
    NoClient,
    /// It has no such key.
    #[error("the client has no key of that name")]
    NoKey,
    /// Not a name.
    #[error("a key's name is 1 to {LONGEST_NAME} letters, digits, `-`, `_` or `.`")]
    Name,
    /// It has one of that name.
    #[error("the client has a key of that name already, be it one that has expired")]
    NameTaken,
    /// It has as many as may be.
    #[error("the client has {MOST_KEYS} keys, the most that there may be; remove one first")]
    TooMany,
    /// It would end before it begins.
    #[error("a key ends at a time that is still to come")]
    Past,
    /// It would end in a far future.
    #[error("a key ends within 3650d, which are ten years; leave `expires` out where it is to have no end")]
    TooFar,
    /// It has expired: another value of it would be good for nothing.
    #[error("the key has expired; remove it, and add another")]
    Expired,
    /// The old one would be good for too long.
    #[error("an old key is good for 90d at most")]
    OldTooLong,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A client's keys. Blocks.
pub fn list(env: Env<'_>, client: &str, now: Timestamp) -> Result<KeyList, KeyFault> {
    let keys = env.store.read(|connection| {
        let client = clients::by_name(connection, client)?;
        client.map(|client| client_keys::list(connection, client.client)).transpose()
    })?;
    let keys = keys.ok_or(KeyFault::NoClient)?.into_iter().map(|key| KeyView::of(key, now)).collect();
    Ok(KeyList { keys, next: None })
}

/// Gives a client one more key. Blocks.
pub fn add(env: Env<'_>, actor: &Actor, client: &str, wanted: WantedKey) -> Result<AddedKey, KeyFault> {
    let WantedKey { name, scopes, expires } = wanted;
    if !is_name(&name) {
        return Err(KeyFault::Name);
    }
    let (value, scopes, of) = (new_client_key(), scopes.unwrap_or(Scopes::ALL), client.to_owned());
    let (named, hash) = (name.clone(), key_hash(&value));
    let deed = actor.deed("client.key-add", client, None);
    let added = env.store.write(move |tx| {
        let expires_at = expires.map(|expires| expires.at(tx.now));
        if expires_at.is_some_and(|at| at <= tx.now) {
            return Ok(Err(KeyFault::Past));
        }
        if expires_at.is_some_and(|at| at > tx.now.after(ENDS_WITHIN)) {
            return Ok(Err(KeyFault::TooFar));
        }
        let Some(client) = clients::by_name(tx.connection, &of)? else { return Ok(Err(KeyFault::NoClient)) };
        let ends = expires_at.map_or_else(String::new, |at| format!(" until {at}"));
        let why = Some(format!("{named}: {scopes}{ends}"));
        let key = client_keys::NewKey { name: named, hash, scopes, expires_at };
        match client_keys::add(tx, client.client, &key)? {
            Added::Yes => audit::note(tx, &Deed { why, ..deed })?,
            Added::NameTaken => return Ok(Err(KeyFault::NameTaken)),
            Added::TooMany => return Ok(Err(KeyFault::TooMany)),
        }
        Ok(Ok(expires_at))
    })?;
    Ok(AddedKey { client: client.to_owned(), name, key: value, scopes, expires_at: added? })
}

/// Removes a client's key: it is good for nothing from here on, also for what is under way. Blocks.
pub fn remove(env: Env<'_>, actor: &Actor, client: &str, name: &str) -> Result<(), KeyFault> {
    let deed = actor.deed("client.key-remove", client, None);
    let (client, name) = (client.to_owned(), name.to_owned());
    env.store.write(move |tx| {
        let Some(client) = clients::by_name(tx.connection, &client)? else { return Ok(Err(KeyFault::NoClient)) };
        let Some(key) = client_keys::by_name(tx.connection, client.client, &name)? else {
            return Ok(Err(KeyFault::NoKey));
        };
        client_keys::remove(tx, key.key)?;
        audit::note(tx, &Deed { why: Some(name), ..deed })?;
        Ok(Ok(()))
    })?
}

/// Gives a client's key another value; the old one works for so long, or for a day. Blocks.
pub fn rotate(
    env: Env<'_>,
    actor: &Actor,
    client: &str,
    name: &str,
    works_for: Option<Duration>,
) -> Result<NewKey, KeyFault> {
    let works_for = works_for.unwrap_or(OLD_KEY_WORKS_FOR);
    if works_for > OLD_KEY_WORKS_AT_MOST {
        return Err(KeyFault::OldTooLong);
    }
    let (value, of, name) = (new_client_key(), client.to_owned(), name.to_owned());
    let (hash, deed) = (key_hash(&value), actor.deed("client.rotate-key", client, None));
    let rotated = env.store.write(move |tx| {
        let Some(client) = clients::by_name(tx.connection, &of)? else { return Ok(Err(KeyFault::NoClient)) };
        let Some(key) = client_keys::by_name(tx.connection, client.client, &name)? else {
            return Ok(Err(KeyFault::NoKey));
        };
        if key.has_expired(tx.now) {
            return Ok(Err(KeyFault::Expired));
        }
        let until = (!works_for.is_zero()).then(|| tx.now.after(works_for));
        client_keys::rotate(tx, key.key, hash, until)?;
        let ended = until.map_or_else(|| "ended at once".to_owned(), |until| format!("works until {until}"));
        audit::note(tx, &Deed { why: Some(format!("{name}: the old key {ended}")), ..deed })?;
        Ok(Ok(until))
    })?;
    Ok(NewKey { name: client.to_owned(), key: value, old_key_until: rotated? })
}

/// Notes when keys were last used. Blocks.
pub fn note_uses(store: &Store, uses: Vec<(i64, Timestamp)>) -> Result<(), StoreError> {
    store.write(move |tx| client_keys::note_uses(tx, &uses))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_or_a_while_from_now() {
        let now = Timestamp(1_786_000_000_000);
        let at = |text: &str| text.parse::<Expiry>().map(|expiry| expiry.at(now).0);
        assert_eq!(at("30d"), Ok(now.0 + 30 * 86_400_000));
        assert_eq!(at("2026-08-06T09:06:40.123+02:00"), Ok(1_786_000_000_123));
        for wrong in ["", "tomorrow", "2026-08-06", "-1d"] {
            assert!(wrong.parse::<Expiry>().is_err(), "{wrong}");
        }
    }
}
