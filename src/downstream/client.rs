//! One HTTP client a dependency: sends a filled request, and brings back what came of it. No redirects, no proxy from
//! the environment, and no repeats.
//!
//! ```text
//!   pool --kept------------+
//!                          +--> wire: request, head, body -> answer -> pool
//!   names -> connect -> tls
//! ```
//!
//! It keeps apart what certainly never left (no name, no connection, not a byte written) from what may have been received:
//! the first may be sent again by anybody, the second only by the rules of the step.

mod answer;
mod body;
mod connect;
mod head;
#[cfg(any(test, feature = "fuzzing"))]
mod in_pieces;
mod names;
mod pool;
mod sockets;
mod tls;
mod wire;
mod written;

use std::{sync::Arc, time::Duration};

use hyper::{
    Uri,
    header::{self, HeaderName, HeaderValue},
};
use tokio::time::{Instant, timeout_at};

use self::{
    answer::gather,
    connect::Connector,
    head::Head,
    names::{Lookup, Machine, Name, Where},
    pool::Pool,
    wire::{Connection, Fault},
    written::written,
};
use super::{advice::Advice, lack::Lack, request::Filled};
use crate::{
    clock::Clock,
    model::{Dependency, FailureCode, outcome::Effect},
};

#[cfg(any(test, feature = "fuzzing"))]
pub use self::in_pieces::understood;
pub use self::{
    answer::{Answer, AnswerBody, MAX_ANSWER, json},
    sockets::allow_connections,
    tls::{shake_hands, speaks_tls, tls_in_words},
};

/// What is said of a server that answers plain HTTP with TLS.
const SPEAKS_TLS: &str = "what answers there speaks TLS: `base_url` has to begin with https://";

/// What a call has to take care of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Care {
    /// It leaves on a new connection: a kept one may be closing just now.
    pub fresh: bool,
    /// Something of the answer is saved, so all of it is needed.
    pub keeps_body: bool,
}

/// No answer came, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct CallError {
    /// `timeout` or `connection`.
    pub code: FailureCode,
    /// What the request did: nothing, or perhaps what it asked for.
    pub effect: Effect,
    /// For a person.
    pub what: String,
    /// It left on a kept connection that ended before a byte of the answer: most likely the server had given that up.
    pub was_given_up: bool,
    /// It did not leave because this machine lacks something.
    pub lack: Option<Lack>,
}

impl CallError {
    fn not_sent(code: FailureCode, what: impl Into<String>) -> Self {
        Self { code, effect: Effect::NotSent, what: what.into(), was_given_up: false, lack: None }
    }

    /// It may have been received.
    pub(super) fn unanswered(code: FailureCode, what: impl Into<String>) -> Self {
        Self { code, effect: Effect::Perhaps, what: what.into(), was_given_up: false, lack: None }
    }
}

/// Why there is no connection, or no address for one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Why {
    /// For a person.
    what: String,
    /// What this machine lacks, where that is the reason.
    lack: Option<Lack>,
}

impl Why {
    /// That this machine lacks something.
    fn lack(lack: Lack) -> Self {
        Self { what: lack.to_string(), lack: Some(lack) }
    }

    /// Something else.
    fn other(what: impl Into<String>) -> Self {
        Self { what: what.into(), lack: None }
    }
}

/// Settings that make no client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Not `http://` or `https://` and a host.
    #[error("base_url is not the address of an HTTP server")]
    BaseUrl,
    /// It cannot be spoken with by TLS.
    #[error("base_url: {0}")]
    Tls(String),
    /// No HTTP header. Its value may be a secret.
    #[error("headers: `{0}` cannot be sent as a header")]
    Header(String),
}

/// Sends requests to one dependency, over connections that it keeps.
pub struct Client {
    name: Name,
    connector: Connector,
    pool: Pool,
    timeout: Duration,
    /// The base URL's path, without a trailing `/`.
    path: String,
    /// What every request carries, unless its step says otherwise.
    headers: Vec<(HeaderName, HeaderValue)>,
    clock: Clock,
}

impl Client {
    /// A client that resolves names as the machine does.
    pub fn new(dependency: &Dependency, clock: Clock) -> Result<Self, ClientError> {
        Self::with_lookup(dependency, Arc::new(Machine), clock)
    }

    /// A client that resolves names by `lookup`, and remembers what it says for a while.
    fn with_lookup(dependency: &Dependency, lookup: Arc<dyn Lookup>, clock: Clock) -> Result<Self, ClientError> {
        let base: Uri = dependency.base_url.parse().map_err(|_| ClientError::BaseUrl)?;
        let is_tls = base.scheme_str() == Some("https");
        let authority = base.authority().filter(|_| is_tls || base.scheme_str() == Some("http"));
        let authority = authority.ok_or(ClientError::BaseUrl)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(ClientError::BaseUrl);
        }
        let tls = match is_tls {
            true => Some(tls::connector(host).map_err(ClientError::Tls)?),
            false => None,
        };
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Self {
            name: Name::new(host, port, lookup, clock.clone()),
            connector: Connector::new(tls),
            pool: Pool::new(dependency.most_under_way() as usize, dependency.max_idle, clock.clone()),
            timeout: dependency.timeout,
            path: base.path().trim_end_matches('/').to_owned(),
            headers: written::headers(dependency, authority.as_str())?,
            clock,
        })
    }

    /// Sends one request, and reads its answer to the end, so that the connection can be used again. It never leaves twice: where a
    /// kept connection was given up before a byte of it was written, it leaves on a new one.
    pub async fn call(&self, filled: &Filled, key: Option<&str>, care: Care) -> Result<Answer, CallError> {
        let deadline = Instant::now() + self.timeout;
        let late = || CallError::not_sent(FailureCode::Timeout, "no address for its name (it took too long)");
        let place = timeout_at(deadline, self.name.addresses()).await.map_err(|_| late())?;
        let place = place.map_err(|why| self.not_connected("no address for its name", why))?;
        let unfit = || CallError::not_sent(FailureCode::Connection, "the request cannot be written as HTTP");
        let request = written(&self.path, &self.headers, filled, key).ok_or_else(unfit)?;
        if let Some(kept) = if care.fresh { None } else { self.pool.take(place.moves) } {
            match self.exchange(kept, &request, care, deadline).await {
                Err(error) if error.was_given_up && error.effect == Effect::NotSent => {}
                ended => return ended,
            }
        }
        // Seldom, and large: no request that waits for its answer is to hold room for it.
        let fresh = Box::pin(self.connect(&place, deadline)).await?;
        self.exchange(fresh, &request, care, deadline).await
    }

    async fn connect(&self, place: &Where, deadline: Instant) -> Result<Connection, CallError> {
        let no_connection = |code, why: &str| {
            // Perhaps the name has moved.
            self.name.forget();
            CallError::not_sent(code, format!("no connection ({why})"))
        };
        let (stream, socket) = match timeout_at(deadline, self.connector.connect(&place.addresses)).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(why)) => return Err(self.not_connected("no connection", why)),
            Err(_) => return Err(no_connection(FailureCode::Timeout, "it took too long")),
        };
        let stream = match timeout_at(deadline, self.connector.secure(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(why)) => return Err(no_connection(FailureCode::Connection, &why)),
            Err(_) => return Err(no_connection(FailureCode::Timeout, tls::UNANSWERED)),
        };
        Ok(Connection::new(stream, socket, place.moves))
    }

    fn not_connected(&self, what: &str, why: Why) -> CallError {
        match why.lack {
            // What rests is not needed as much as what it takes.
            Some(_) => self.pool.clear(),
            // Perhaps the name has moved.
            None => self.name.forget(),
        }
        let error = CallError::not_sent(FailureCode::Connection, format!("{what} ({})", why.what));
        CallError { lack: why.lack, ..error }
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        request: &[u8],
        care: Care,
        deadline: Instant,
    ) -> Result<Answer, CallError> {
        let head = match timeout_at(deadline, connection.exchange(request)).await {
            Ok(Ok(head)) => head,
            Ok(Err(fault)) => return Err(unanswered(&connection, Some(fault))),
            Err(_) => return Err(unanswered(&connection, None)),
        };
        Ok(self.take_answer(connection, head, care, deadline).await)
    }

    async fn take_answer(&self, mut connection: Connection, head: Head, care: Care, deadline: Instant) -> Answer {
        let retry_after = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.map(str::to_owned);
        let advice = Advice::of(&head.headers, self.clock.now());
        let gathered = gather(&head, &mut connection, care, deadline).await;
        // What needs a new one each time would leave one behind each time.
        if gathered.at_its_end && head.keeps && connection.is_whole && !care.fresh {
            self.pool.put(connection);
        }
        Answer { status: head.status, retry_after, advice, body: gathered.body }
    }
}

/// Why no answer came over this connection; without a fault the time was over. Nothing of what was sent or came is quoted.
fn unanswered(connection: &Connection, fault: Option<Fault>) -> CallError {
    let is_over = fault.is_none();
    // It has most likely read nothing that was sent without TLS. But whoever says so may have, so that this is only said.
    let is_foreign = connection.is_tls_unasked();
    let (code, what) = match fault {
        _ if is_foreign => (FailureCode::Connection, SPEAKS_TLS.to_owned()),
        None => (FailureCode::Timeout, "no answer in time".to_owned()),
        Some(Fault::NotHttp(why)) => (FailureCode::Connection, format!("what came back is not HTTP ({why})")),
        Some(Fault::Closed) => (FailureCode::Connection, "the connection was closed without an answer".to_owned()),
        Some(Fault::Broke(kind)) => (FailureCode::Connection, format!("the connection broke ({kind})")),
    };
    let effect = if !connection.has_sent { Effect::NotSent } else { Effect::Perhaps };
    let was_given_up = connection.is_kept && !connection.has_received && !is_over;
    CallError { code, effect, what, was_given_up, lack: None }
}

#[cfg(test)]
mod tests;
