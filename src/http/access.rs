//! Who is calling, and what they may do.

use warp::http::{HeaderMap, header};

use super::{
    problem::{Problem, ProblemCode},
    request::Request,
};
use crate::{
    access::key_hash,
    appliance::Appliance,
    config::Secret,
    crypto::same,
    model::BatchId,
    store::{
        audit::Deed,
        batches::{self, Batch},
        clients::{self, Client},
    },
};

/// Whoever showed a key or a token.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Sees and changes its own batches, and nothing else.
    Client(Client),
    /// Sees and changes everything, by this name.
    Operator(String),
    /// May start a dispatch run, and nothing else.
    Dispatcher,
}

/// An operator, and where their request comes from: who an entry of the audit is about.
#[derive(Debug, Clone)]
pub struct Operator {
    /// Their name.
    pub name: String,
    /// An address.
    pub origin: String,
}

impl Operator {
    /// What they are about to do, for the audit: to be noted in the transaction that does it.
    pub fn deed(&self, action: &'static str, target: impl Into<String>, why: Option<String>) -> Deed {
        Deed { who: self.name.clone(), origin: self.origin.clone(), action, target: Some(target.into()), why }
    }
}

/// The operator that the configured token stands for.
const ROOT: &str = "root";

impl Caller {
    /// Finds out who shows this `Authorization`. Blocks.
    pub fn of(request: &Request) -> Result<Self, Problem> {
        let appliance = request.appliance();
        let key = bearer(&request.headers)?;
        let access = &appliance.config.access;
        let is = |token: &Option<Secret>| token.as_ref().is_some_and(|token| same_secret(token, key));
        if is(&access.operator_token) {
            return Ok(Self::Operator(ROOT.to_owned()));
        }
        if is(&access.dispatch_token) {
            return Ok(Self::Dispatcher);
        }
        let client = appliance.store.read(|connection| clients::by_key_hash(connection, key_hash(key)))?;
        client.map(Self::Client).ok_or_else(unauthorized)
    }

    /// The client, for calls that only a client can make.
    pub fn client(self) -> Result<Client, Problem> {
        match self {
            Self::Client(client) => Ok(client),
            Self::Operator(_) | Self::Dispatcher => Err(forbidden("This call is for clients: use a client's key.")),
        }
    }

    /// The operator's name, for calls that only an operator can make.
    pub fn operator(self) -> Result<String, Problem> {
        match self {
            Self::Operator(name) => Ok(name),
            Self::Client(_) | Self::Dispatcher => Err(forbidden("This call is for operators.")),
        }
    }

    /// Whose batches the caller may see: `None` for everybody's.
    pub fn sees(&self) -> Result<Option<i64>, Problem> {
        match self {
            Self::Client(client) => Ok(Some(client.client)),
            Self::Operator(_) => Ok(None),
            Self::Dispatcher => Err(forbidden("The dispatch token can only start dispatch runs.")),
        }
    }

    /// A batch that the caller may see; another client's is not found, like one that never was.
    pub fn batch(&self, appliance: &Appliance, id: BatchId) -> Result<Batch, Problem> {
        let whose = self.sees()?;
        let found = appliance.store.read(|connection| batches::find(connection, id))?;
        found
            .filter(|batch| whose.is_none_or(|client| client == batch.client))
            .ok_or_else(|| Problem::not_found("batch"))
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, key) = value.and_then(|value| value.split_once(' ')).ok_or_else(unauthorized)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(key.trim()) } else { Err(unauthorized()) }
}

/// Compares hashes, so that neither content nor length of a token shows in the time it takes.
fn same_secret(token: &Secret, shown: &str) -> bool {
    same(&key_hash(token.expose()), &key_hash(shown))
}

fn unauthorized() -> Problem {
    Problem::new(ProblemCode::Unauthorized, "Send a valid key as `Authorization: Bearer KEY`.")
}

fn forbidden(detail: &str) -> Problem {
    Problem::new(ProblemCode::Forbidden, detail)
}
