//! Who is calling, and what they may do.
//!
//! Every way in ends in one look-up by the hash of a key: a key that is shown, and a session, which stands for the hash
//! of the key that it was opened with. So a session can do what its key can, and ends with it.

use warp::http::{HeaderMap, header};

use super::{
    answer::{sent_by, sent_from},
    meter::Metered,
    problem::{Problem, ProblemCode},
    request::Request,
    session,
};
pub use crate::operations::callers::{Badge, Caller};
use crate::{
    access::{is_one_of_ours, key_hash},
    appliance::Appliance,
    model::{BatchId, Role, Scope, Timestamp},
    store::{
        batches::{self, Batch},
        client_keys::Pass,
        clients::Client,
    },
};

/// What whoever is no operator is told by calls that are for operators.
const FOR_OPERATORS: &str = "This call is for operators.";

/// Who shows something that is good, what that is, and until when it is.
pub struct Shown {
    /// Who.
    pub caller: Caller,
    /// What they show.
    pub badge: Badge,
    /// The end of their session, where it is one.
    pub session_ends: Option<Timestamp>,
}

/// Who sends this request: by its key, or else by its session. Blocks.
pub fn identify(request: &Request) -> Result<Shown, Problem> {
    // Whom nobody knows is known by their address alone.
    shown(request).inspect_err(|_| sent_from(request.origin()))
}

fn shown(request: &Request) -> Result<Shown, Problem> {
    if request.headers.contains_key(header::AUTHORIZATION) {
        let key = bearer(&request.headers)?;
        let caller = holder_of(request, key)?;
        request.side().lets_in(&caller)?;
        return Ok(Shown { caller, badge: Badge { key: key_hash(key), session: None }, session_ends: None });
    }
    let Some((hash, session)) = session::of(request)? else { return Err(unauthorized()) };
    let caller = Caller::by_hash(request.appliance(), session.key_hash)?.ok_or_else(unauthorized)?;
    sent_by(&caller);
    request.side().lets_in(&caller)?;
    session::must_be_meant(request)?;
    let badge = Badge { key: session.key_hash, session: Some(hash) };
    Ok(Shown { caller, badge, session_ends: Some(session.expires_at) })
}

/// Waits until it is this key's turn to be looked at: longer than not at all only where many were wrong.
pub async fn turn(request: &Request, key: &str) {
    if is_one_of_ours(key) {
        return;
    }
    let now = request.appliance().clock.steady();
    let wait = request.context.door.sign_ins.waits(request.origin(), &key_hash(key), now);
    if !wait.is_zero() {
        // Whoever guesses waits, and holds no place that somebody else needs.
        let _ = request.while_waiting(tokio::time::sleep(wait)).await;
    }
}

/// The same for the key that comes with the request, where one does.
pub async fn turn_of_bearer(request: &Request) {
    if let Ok(key) = bearer(&request.headers) {
        turn(request, key).await;
    }
}

/// Who has this key. Blocks.
pub fn sign_in(request: &Request, key: &str) -> Result<Caller, Problem> {
    let caller = holder_of(request, key).inspect_err(|_| sent_from(request.origin()))?;
    request.side().lets_in(&caller)?;
    Ok(caller)
}

fn holder_of(request: &Request, key: &str) -> Result<Caller, Problem> {
    let (appliance, sign_ins) = (request.appliance(), &request.context.door.sign_ins);
    let (hash, origin, now) = (key_hash(key), request.origin(), appliance.clock.steady());
    let wrong_keys = &request.context.door.wrong_keys;
    if let Some(caller) = Caller::by_hash(appliance, hash)? {
        if !is_one_of_ours(key) {
            sign_ins.succeeded(&hash);
        }
        sent_by(&caller);
        return Ok(caller);
    }
    wrong_keys.wrong(origin);
    match sign_ins.failed(origin, now) {
        None => Err(unauthorized()),
        Some(seconds) => {
            let origin = origin.map(tracing::field::display);
            tracing::warn!(event = "sign_in.slowed", origin, seconds, "wrong keys from one address are slowed down");
            Err(slowed_down(seconds))
        }
    }
}

impl Caller {
    /// Whose requests it is that are counted; what calls like clockwork is not held up by a limit.
    pub(super) fn metered(&self) -> Option<Metered> {
        match self {
            Self::Client(client, _) => Some(Metered::Client(client.client)),
            Self::Operator(name, _) => Some(Metered::Operator(name.clone())),
            Self::Dispatcher | Self::Watcher => None,
        }
    }

    /// The client, for calls that only a client can make.
    pub fn client(self) -> Result<Client, Problem> {
        match self {
            Self::Client(client, _) => Ok(client),
            Self::Operator(..) | Self::Dispatcher | Self::Watcher => {
                Err(forbidden("This call is for clients: use a client's key."))
            }
        }
    }

    /// The operator's name, for calls that only an operator can make.
    pub fn operator(self) -> Result<String, Problem> {
        match self {
            Self::Operator(name, _) => Ok(name),
            Self::Client(..) | Self::Dispatcher | Self::Watcher => Err(forbidden(FOR_OPERATORS)),
        }
    }

    /// Refuses a client whose key is not good for this call. One that asks for no scope is none for clients.
    pub(super) fn must_have(&self, needed: Option<Scope>) -> Result<(), Problem> {
        let Self::Client(_, Pass { scopes, .. }) = self else { return Ok(()) };
        match needed {
            Some(scope) if scopes.has(scope) => Ok(()),
            Some(scope) => Err(forbidden(&format!(
                "This call needs a key with the scope `{}`; this one has `{scopes}`.",
                scope.as_str()
            ))),
            None => Err(forbidden(FOR_OPERATORS)),
        }
    }

    /// Refuses an operator whose role is below this one. Clients have other rules.
    pub(super) fn must_be(&self, role: Role) -> Result<(), Problem> {
        match self {
            Self::Operator(_, Role::Viewer) if role > Role::Viewer => {
                Err(forbidden("A viewer looks at what is masked, and changes nothing: this is for operators."))
            }
            Self::Operator(_, has) if *has < role => {
                Err(forbidden("This decides who gets in, or what they get in with: it is for admins."))
            }
            _ => Ok(()),
        }
    }

    /// Whether the caller may use this workflow.
    pub(super) fn may_use(&self, workflow: &str) -> bool {
        match self {
            Self::Client(client, _) => client.may_use(workflow),
            Self::Operator(..) => true,
            Self::Dispatcher | Self::Watcher => false,
        }
    }

    /// Whose batches the caller may see: `None` for everybody's.
    pub fn sees(&self) -> Result<Option<i64>, Problem> {
        match self {
            Self::Client(client, _) => Ok(Some(client.client)),
            Self::Operator(..) => Ok(None),
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

pub(super) fn slowed_down(seconds: u64) -> Problem {
    Problem::new(
        ProblemCode::RateLimited,
        "This key is not valid, and too many came from there that were not; wait before the next try.",
    )
    .retry_after(seconds)
}

/// What a request is told whose right to go on ended while it was under way.
pub(super) fn revoked() -> Problem {
    let detail = "The key was taken away, or its time was over, while this was under way. Nothing of it was kept.";
    Problem::new(ProblemCode::Unauthorized, detail)
}

pub(super) fn unauthorized() -> Problem {
    Problem::new(ProblemCode::Unauthorized, "Send a valid key as `Authorization: Bearer KEY`.")
}

/// What a client is told of a workflow that it may not use. That there is one stands in the API's description.
pub(super) fn not_for_client(workflow: &str) -> Problem {
    forbidden(&format!(
        "This client may not use the workflow `{workflow}`; `GET /v2/workflows` lists those that it may."
    ))
}

pub(super) fn forbidden(detail: &str) -> Problem {
    Problem::new(ProblemCode::Forbidden, detail)
}
