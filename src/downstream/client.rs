//! One HTTP client a dependency: sends a filled request, and brings back what came of it. No redirects, no proxy from
//! the environment, and no repeats.
//!
//! ```text
//!   pool --kept--+
//!                +--> send over hyper's connection -> gather the answer -> pool
//!   names -> connect -> tls
//! ```
//!
//! It keeps apart what certainly never left (no name, no connection, not a byte written) from what may have been received:
//! the first may be sent again by anybody, the second only by the rules of the step.

mod answer;
mod connect;
mod names;
mod pool;
mod tls;
mod wire;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Request, Response, Uri,
    body::Incoming,
    client::conn::http1,
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use self::{
    answer::gather,
    connect::Connector,
    names::{Lookup, Machine, Name, Where},
    pool::{Connection, Pool},
    wire::Wire,
};
use super::{advice::Advice, request::Filled};
use crate::{
    clock::Clock,
    model::{Dependency, FailureCode, outcome::Effect},
};

pub use self::{
    answer::{Answer, AnswerBody, MAX_ANSWER, json},
    tls::shake_hands,
};

/// The most bytes of an answer's head, and of its lines.
const MAX_HEAD: usize = 32 * 1024;
const MAX_HEAD_LINES: usize = 256;
/// What a connection holds of what it reads, at most. It begins with less.
const READ_BUFFER: usize = 64 * 1024;
/// How often the newest connection is given the time to end its last exchange.
const TURNS: usize = 2;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

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
}

impl CallError {
    fn not_sent(code: FailureCode, what: impl Into<String>) -> Self {
        Self { code, effect: Effect::NotSent, what: what.into(), was_given_up: false }
    }

    /// Nobody is left who could say what became of it.
    /// It may have been received.
    pub(super) fn unanswered(code: FailureCode, what: impl Into<String>) -> Self {
        Self { code, effect: Effect::Perhaps, what: what.into(), was_given_up: false }
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
    protocol: http1::Builder,
    timeout: Duration,
    /// The base URL's path, without a trailing `/`.
    path: String,
    headers: HeaderMap,
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
        let mut protocol = http1::Builder::new();
        protocol
            .max_buf_size(READ_BUFFER)
            .max_header_size(MAX_HEAD)
            .max_headers(MAX_HEAD_LINES)
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true);
        Ok(Self {
            name: Name::new(host, port, lookup, clock.clone()),
            connector: Connector::new(tls),
            pool: Pool::new(dependency.most_under_way() as usize, dependency.max_idle, clock.clone()),
            protocol,
            timeout: dependency.timeout,
            path: base.path().trim_end_matches('/').to_owned(),
            headers: headers(dependency, authority.as_str())?,
            clock,
        })
    }

    /// Sends one request, and reads its answer to the end, so that the connection can be used again. It never leaves twice: where a
    /// kept connection was given up before a byte of it was written, it leaves on a new one.
    pub async fn call(&self, filled: &Filled, key: Option<&str>, care: Care) -> Result<Answer, CallError> {
        let deadline = Instant::now() + self.timeout;
        let late = || CallError::not_sent(FailureCode::Timeout, "no address for its name (it took too long)");
        let place = timeout_at(deadline, self.name.addresses()).await.map_err(|_| late())?;
        let place = place
            .map_err(|why| CallError::not_sent(FailureCode::Connection, format!("no address for its name ({why})")))?;
        if let Some(kept) = if care.fresh { None } else { self.kept(place.moves).await } {
            let request = self.request(filled, key)?;
            match self.exchange(kept, request, care, deadline).await {
                Err(error) if error.was_given_up && error.effect == Effect::NotSent => {}
                ended => return ended,
            }
        }
        let request = self.request(filled, key)?;
        let fresh = self.connect(&place, deadline).await?;
        self.exchange(fresh, request, care, deadline).await
    }

    /// A connection that was used before. The newest may be about to end its last exchange.
    async fn kept(&self, moves: u64) -> Option<Connection> {
        for _ in 0..TURNS {
            match self.pool.take(moves) {
                Some(connection) => return Some(connection),
                None if self.pool.is_empty() => return None,
                None => tokio::task::yield_now().await,
            }
        }
        None
    }

    async fn connect(&self, place: &Where, deadline: Instant) -> Result<Connection, CallError> {
        let no_connection = |code, why: &str| {
            // Perhaps the name has moved.
            self.name.forget();
            CallError::not_sent(code, format!("no connection ({why})"))
        };
        let stream = match timeout_at(deadline, self.connector.connect(&place.addresses)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(why)) => return Err(no_connection(FailureCode::Connection, &why)),
            Err(_) => return Err(no_connection(FailureCode::Timeout, "it took too long")),
        };
        let (wire, counts) = Wire::new(stream);
        let shaken = self.protocol.handshake(TokioIo::new(wire)).await;
        let (sender, connection) = shaken.map_err(|_| no_connection(FailureCode::Connection, "it broke"))?;
        // It ends with its last exchange, or when the server closes it: what is wrong with it, the call that uses it is told.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { sender, counts, moves: place.moves, is_kept: false })
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        request: Request<Full<Bytes>>,
        care: Care,
        deadline: Instant,
    ) -> Result<Answer, CallError> {
        let (sent, received) = connection.counts.so_far();
        let response = match timeout_at(deadline, connection.sender.send_request(request)).await {
            Ok(Ok(response)) => response,
            failed => {
                let (sent_now, received_now) = connection.counts.so_far();
                let (code, what) = match &failed {
                    Ok(Err(error)) => (FailureCode::Connection, in_words(error)),
                    _ => (FailureCode::Timeout, "no answer in time".to_owned()),
                };
                let effect = if sent_now == sent { Effect::NotSent } else { Effect::Perhaps };
                let was_given_up = connection.is_kept && received_now == received && failed.is_ok();
                return Err(CallError { code, effect, what, was_given_up });
            }
        };
        Ok(self.take_answer(connection, response, care, deadline).await)
    }

    async fn take_answer(
        &self,
        connection: Connection,
        response: Response<Incoming>,
        care: Care,
        deadline: Instant,
    ) -> Answer {
        let (head, body) = response.into_parts();
        let retry_after = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.map(str::to_owned);
        let advice = Advice::of(&head.headers, self.clock.now());
        let gathered = gather(&head.headers, body, care, deadline).await;
        // What needs a new one each time would leave one behind each time.
        if gathered.at_its_end && !care.fresh && !connection.sender.is_closed() {
            self.pool.put(connection);
        }
        Answer { status: head.status.as_u16(), retry_after, advice, body: gathered.body }
    }

    fn request(&self, filled: &Filled, key: Option<&str>) -> Result<Request<Full<Bytes>>, CallError> {
        let unfit = || CallError::not_sent(FailureCode::Connection, "the request cannot be written as HTTP");
        let target = Uri::try_from(format!("{}{}", self.path, filled.target())).map_err(|_| unfit())?;
        let body = filled.body.as_deref().map(Bytes::copy_from_slice);
        let has_body = body.is_some();
        let request = Request::builder().method(filled.method.as_str()).uri(target);
        let mut request = request.body(Full::new(body.unwrap_or_default())).map_err(|_| unfit())?;
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        for (name, value) in &filled.headers {
            headers.insert(name, value.clone());
        }
        if has_body {
            headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        }
        if let Some(key) = key {
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(key).map_err(|_| unfit())?);
        }
        // How long the body is, and where it ends, is said by the connection alone.
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
        Ok(request)
    }
}

/// What every request carries.
fn headers(dependency: &Dependency, authority: &str) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    // A user in it is no part of the host.
    let host = authority.rsplit('@').next().unwrap_or(authority);
    headers.insert(header::HOST, HeaderValue::from_str(host).map_err(|_| ClientError::BaseUrl)?);
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    let agent = HeaderValue::from_static(concat!("dripfeed/", env!("CARGO_PKG_VERSION")));
    headers.insert(header::USER_AGENT, agent);
    for (name, value) in &dependency.headers {
        let wrong = || ClientError::Header(name.clone());
        let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(HeaderName::try_from(name).map_err(|_| wrong())?, value);
    }
    Ok(headers)
}

/// Why no answer came. None of hyper's words quotes what was sent.
fn in_words(error: &hyper::Error) -> String {
    if error.is_parse() || error.is_user() {
        return format!("what came back is not HTTP ({error})");
    }
    if error.is_incomplete_message() {
        return "the connection was closed without an answer".to_owned();
    }
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    match io {
        Some(io) => format!("the connection broke ({})", io.kind()),
        None => "the connection broke".to_owned(),
    }
}

#[cfg(test)]
mod tests;
