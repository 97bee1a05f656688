//! Who somebody is by what they show: a key, a token, or a session that stands for one.

use crate::{
    access::{KeyHash, ROOT, key_hash},
    appliance::Appliance,
    config::{Access, Secret},
    crypto::same,
    model::{Role, Timestamp},
    store::{
        Connection, StoreError,
        client_keys::{self, Pass},
        clients::{Client, FIRST_KEY},
        operators, sessions,
    },
};

/// What stands before the name of a client, where operators are named as well.
pub(super) const CLIENT: &str = "client:";

/// Whoever showed a key or a token.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Sees and changes its own batches, as far as the key goes that it shows, and nothing else.
    Client(Client, Pass),
    /// Sees everything, and changes what the role may change, by this name.
    Operator(String, Role),
    /// May start a dispatch run, and nothing else.
    Dispatcher,
    /// May read the metrics, and nothing else.
    Watcher,
}

/// What somebody shows: a key, or a session that stands for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Badge {
    /// The key's hash.
    pub key: KeyHash,
    /// The session's.
    pub session: Option<KeyHash>,
}

impl Badge {
    /// Whoever it is good for at this time, if it is.
    pub fn holder(
        self,
        access: &Access,
        connection: &Connection,
        now: Timestamp,
    ) -> Result<Option<Caller>, StoreError> {
        if let Some(session) = self.session
            && sessions::find(connection, session, now)?.is_none()
        {
            return Ok(None);
        }
        Caller::of_hash(access, connection, self.key, now)
    }
}

impl Caller {
    /// Whose key has this hash: a configured token's, a client's, an operator's. Blocks.
    pub fn by_hash(appliance: &Appliance, hash: KeyHash) -> Result<Option<Self>, StoreError> {
        let (access, now) = (&appliance.config.access, appliance.clock.now());
        appliance.store.read(|connection| Self::of_hash(access, connection, hash, now))
    }

    fn of_hash(
        access: &Access,
        connection: &Connection,
        hash: KeyHash,
        now: Timestamp,
    ) -> Result<Option<Self>, StoreError> {
        let is = |token: &Option<Secret>| token.as_ref().is_some_and(|token| same(&key_hash(token.expose()), &hash));
        if is(&access.operator_token) {
            return Ok(Some(Self::Operator(ROOT.to_owned(), Role::Admin)));
        }
        if is(&access.dispatch_token) {
            return Ok(Some(Self::Dispatcher));
        }
        if is(&access.metrics_token) {
            return Ok(Some(Self::Watcher));
        }
        if let Some((client, pass)) = client_keys::by_hash(connection, hash, now)? {
            return Ok(Some(Self::Client(client, pass)));
        }
        let operator = operators::by_token_hash(connection, hash)?;
        Ok(operator.map(|operator| Self::Operator(operator.name, operator.role)))
    }

    /// Whether this is who may do what the other one may.
    pub fn may_what(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Client(now, pass), Self::Client(then, pass_then)) => {
                now.client == then.client && pass.scopes.include(pass_then.scopes)
            }
            (Self::Operator(now, role), Self::Operator(then, role_then)) => now == then && role >= role_then,
            (Self::Dispatcher, Self::Dispatcher) | (Self::Watcher, Self::Watcher) => true,
            _ => false,
        }
    }

    /// What the audit calls them, with the name of their key where a client has more than its first one.
    pub fn audited_with_key(&self) -> String {
        match self {
            Self::Client(client, pass) if pass.name != FIRST_KEY => format!("{CLIENT}{}/{}", client.name, pass.name),
            _ => self.audited_as(),
        }
    }

    /// Who they are, whatever they came in with. No name of an operator has a colon in it.
    pub fn audited_as(&self) -> String {
        match self {
            Self::Client(client, _) => format!("{CLIENT}{}", client.name),
            Self::Operator(name, _) => name.clone(),
            Self::Dispatcher => "dispatch token".to_owned(),
            Self::Watcher => "metrics token".to_owned(),
        }
    }
}
