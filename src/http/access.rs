//! Who is calling, and what they may do.
//!
//! Every way in ends in one look-up by the hash of a key: a key that is shown, and a session, which stands for the hash
//! of the key that it was opened with. So a session can do what its key can, and ends with it.

use warp::http::{HeaderMap, header};

use super::{
    answer::sent_by,
    meter::Metered,
    problem::{Problem, ProblemCode},
    request::Request,
    session,
};
use crate::{
    access::{KeyHash, ROOT, is_one_of_ours, key_hash},
    appliance::Appliance,
    config::Secret,
    crypto::same,
    model::{BatchId, Timestamp},
    store::{
        StoreError,
        audit::Deed,
        batches::{self, Batch},
        clients::{self, Client},
        operators,
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
    /// May read the metrics, and nothing else.
    Watcher,
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

/// Who shows something that is good, and until when it is.
pub struct Shown {
    /// Who.
    pub caller: Caller,
    /// The end of their session, where it is one.
    pub session_ends: Option<Timestamp>,
}

/// Who sends this request: by its key, or else by its session. Blocks.
pub fn identify(request: &Request) -> Result<Shown, Problem> {
    if request.headers.contains_key(header::AUTHORIZATION) {
        let caller = sign_in(request, bearer(&request.headers)?)?;
        return Ok(Shown { caller, session_ends: None });
    }
    let appliance = request.appliance();
    let Some(session) = session::of(request)? else { return Err(unauthorized()) };
    let caller = Caller::of_hash(appliance, session.key_hash)?.ok_or_else(unauthorized)?;
    sent_by(&caller);
    session::must_be_meant(request)?;
    Ok(Shown { caller, session_ends: Some(session.expires_at) })
}

/// Who has this key. Wrong ones are slowed down. Blocks.
pub fn sign_in(request: &Request, key: &str) -> Result<Caller, Problem> {
    let (appliance, sign_ins) = (request.appliance(), &request.context.door.sign_ins);
    let (hash, origin, now) = (key_hash(key), request.origin(), appliance.clock.steady());
    let wait = sign_ins.must_wait(origin, &hash, now);
    if let Some(seconds) = wait.filter(|_| !is_one_of_ours(key)) {
        return Err(slowed_down(seconds));
    }
    if let Some(caller) = Caller::of_hash(appliance, hash)? {
        if !is_one_of_ours(key) {
            sign_ins.succeeded(&hash);
        }
        sent_by(&caller);
        return Ok(caller);
    }
    match wait.or_else(|| sign_ins.failed(origin, now)) {
        None => Err(unauthorized()),
        Some(seconds) => {
            let origin = origin.map(tracing::field::display);
            tracing::warn!(event = "sign_in.slowed", origin, seconds, "wrong keys from one address are slowed down");
            Err(slowed_down(seconds))
        }
    }
}

impl Caller {
    /// Whose key has this hash: a configured token's, a client's, an operator's.
    fn of_hash(appliance: &Appliance, hash: KeyHash) -> Result<Option<Self>, StoreError> {
        let access = &appliance.config.access;
        let is = |token: &Option<Secret>| token.as_ref().is_some_and(|token| same(&key_hash(token.expose()), &hash));
        if is(&access.operator_token) {
            return Ok(Some(Self::Operator(ROOT.to_owned())));
        }
        if is(&access.dispatch_token) {
            return Ok(Some(Self::Dispatcher));
        }
        if is(&access.metrics_token) {
            return Ok(Some(Self::Watcher));
        }
        let now = appliance.clock.now();
        appliance.store.read(|connection| {
            if let Some(client) = clients::by_key_hash(connection, hash, now)? {
                return Ok(Some(Self::Client(client)));
            }
            let operator = operators::by_token_hash(connection, hash)?;
            Ok(operator.map(|operator| Self::Operator(operator.name)))
        })
    }

    /// Whose requests it is that are counted; what calls like clockwork is not held up by a limit.
    pub(super) fn metered(&self) -> Option<Metered> {
        match self {
            Self::Client(client) => Some(Metered::Client(client.client)),
            Self::Operator(name) => Some(Metered::Operator(name.clone())),
            Self::Dispatcher | Self::Watcher => None,
        }
    }

    /// The client, for calls that only a client can make.
    pub fn client(self) -> Result<Client, Problem> {
        match self {
            Self::Client(client) => Ok(client),
            Self::Operator(_) | Self::Dispatcher | Self::Watcher => {
                Err(forbidden("This call is for clients: use a client's key."))
            }
        }
    }

    /// The operator's name, for calls that only an operator can make.
    pub fn operator(self) -> Result<String, Problem> {
        match self {
            Self::Operator(name) => Ok(name),
            Self::Client(_) | Self::Dispatcher | Self::Watcher => Err(forbidden("This call is for operators.")),
        }
    }

    /// Whose batches the caller may see: `None` for everybody's.
    pub fn sees(&self) -> Result<Option<i64>, Problem> {
        match self {
            Self::Client(client) => Ok(Some(client.client)),
            Self::Operator(_) => Ok(None),
            Self::Dispatcher | Self::Watcher => Err(self.limited()),
        }
    }

    /// What a token is told that is good for one call, and asks for another.
    pub(super) fn limited(&self) -> Problem {
        match self {
            Self::Watcher => forbidden("The metrics token can only read the metrics."),
            _ => forbidden("The dispatch token can only start dispatch runs."),
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

fn slowed_down(seconds: u64) -> Problem {
    Problem::new(ProblemCode::RateLimited, "Too many wrong keys came from there; wait before the next try.")
        .retry_after(seconds)
}

pub(super) fn unauthorized() -> Problem {
    Problem::new(ProblemCode::Unauthorized, "Send a valid key as `Authorization: Bearer KEY`.")
}

pub(super) fn forbidden(detail: &str) -> Problem {
    Problem::new(ProblemCode::Forbidden, detail)
}
