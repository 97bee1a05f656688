//! One HTTP client a dependency: sends a filled request, and brings back what came of it. No redirects, no proxy from
//! the environment, no retries: one call is one request.
//!
//! It keeps apart what certainly never left (no name, no connection) from what may have been received: the first may
//! be sent again by anybody, the second only by the rules of the step.

use std::{fmt, io, io::Read, sync::Arc};

use ureq::{
    Agent, Body, Error,
    config::Config,
    http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header},
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{ConnectionDetails, Connector, NextTimeout, RustlsConnector, Transport},
    },
};

use super::{
    agents::Agents,
    gathering::Gathering,
    request::{Filled, MAX_HEADERS, MAX_TARGET},
    resolver::Remembering,
    socket::Socket,
};
use crate::{
    clock::Clock,
    model::{Dependency, FailureCode, outcome::Effect, workflow::Method},
};

/// The most bytes of an answer's body that are read.
pub const MAX_ANSWER: usize = 1024 * 1024;
/// The most bytes of an answer's head.
const MAX_HEAD: usize = 32 * 1024;
/// Answers are small: a connection holds no more than this of them.
const BUFFER: usize = 16 * 1024;
/// What a connection holds of requests: the longest line and headers that a step can have ([`MAX_TARGET`],
/// [`MAX_HEADERS`]), with what the dependency adds. ureq wants each of them to fit.
const OUTPUT: usize = MAX_TARGET + MAX_HEADERS + 16 * 1024;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, as it came.
    pub retry_after: Option<String>,
    /// As far as it was read.
    pub body: AnswerBody,
}

/// An answer's body. Private: it is about a row.
pub enum AnswerBody {
    /// All of it.
    Whole(Vec<u8>),
    /// The beginning of one that is longer than [`MAX_ANSWER`].
    TooLarge(Vec<u8>),
    /// The beginning of one that broke off.
    Broken(Vec<u8>, CallError),
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, bytes) = match self {
            Self::Whole(bytes) => ("Whole", bytes),
            Self::TooLarge(bytes) => ("TooLarge", bytes),
            Self::Broken(bytes, _) => ("Broken", bytes),
        };
        write!(f, "{kind}({} bytes)", bytes.len())
    }
}

/// No answer came, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct CallError {
    /// `timeout` or `connection`.
    pub code: FailureCode,
    /// What it can have done: `NotSent` or `Perhaps`.
    pub effect: Effect,
    /// For a person.
    pub what: String,
}

/// Settings that make no client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Not `http://` or `https://` and a host.
    #[error("base_url is not the address of an HTTP server")]
    BaseUrl,
    /// No HTTP header. Its value may be a secret.
    #[error("headers: `{0}` cannot be sent as a header")]
    Header(String),
}

/// Sends requests to one dependency, over connections that it keeps.
pub struct Client {
    agents: Agents,
    base_url: String,
    headers: HeaderMap,
}

impl Client {
    /// A client that resolves names as the machine does.
    pub fn new(dependency: &Dependency, clock: Clock) -> Result<Self, ClientError> {
        Self::with_resolver(dependency, DefaultResolver::default(), clock)
    }

    /// A client that resolves names by `resolver`, and remembers what it says for a while.
    pub fn with_resolver<R: Resolver>(dependency: &Dependency, resolver: R, clock: Clock) -> Result<Self, ClientError> {
        let base: Uri = dependency.base_url.parse().map_err(|_| ClientError::BaseUrl)?;
        if !matches!(base.scheme_str(), Some("http" | "https")) || base.host().is_none_or(str::is_empty) {
            return Err(ClientError::BaseUrl);
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &dependency.headers {
            let wrong = || ClientError::Header(name.clone());
            let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::try_from(name).map_err(|_| wrong())?, value);
        }
        let names = Arc::new(Remembering::new(resolver, clock));
        let (config, moving) = (config(dependency), names.clone());
        let make = move || {
            let dialer = Dialer { tls: RustlsConnector::default(), names: names.clone() };
            Agent::with_parts(config.clone(), dialer, Names(names.clone()))
        };
        let agents = Agents::new(make, move || moving.moves());
        Ok(Self { agents, base_url: dependency.base_url.clone(), headers })
    }

    /// Sends one request, and reads its answer to the end, so that the connection can be used again.
    pub fn call(&self, filled: &Filled, idempotency_key: Option<&str>) -> Result<Answer, CallError> {
        let response = self.send(filled, idempotency_key).map_err(|error| told(&error))?;
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let (status, retry_after) = (response.status().as_u16(), retry_after.map(str::to_owned));
        Ok(Answer { status, retry_after, body: read(response.into_body()) })
    }

    fn send(&self, filled: &Filled, idempotency_key: Option<&str>) -> Result<Response<Body>, Error> {
        let request = self.request(filled, idempotency_key)?;
        let agent = self.agents.current();
        match (&filled.body, filled.method) {
            (None, _) => agent.run(request.map(|()| ())),
            (Some(body), Method::Post | Method::Put | Method::Patch) => agent.run(request.map(|()| &body[..])),
            // ureq sends a body with these only where it is told that this is meant.
            (Some(body), Method::Get | Method::Delete) => {
                let (parts, ()) = request.into_parts();
                let mut builder = match filled.method {
                    Method::Get => agent.get(parts.uri),
                    _ => agent.delete(parts.uri),
                }
                .force_send_body();
                for (name, value) in &parts.headers {
                    builder = builder.header(name, value);
                }
                builder.send(&body[..])
            }
        }
    }

    fn request(&self, filled: &Filled, idempotency_key: Option<&str>) -> Result<Request<()>, Error> {
        let mut request = Request::builder()
            .method(filled.method.as_str())
            .uri(format!("{}{}", self.base_url, filled.target()))
            .body(())?;
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        for (name, value) in &filled.headers {
            headers.insert(name, value.clone());
        }
        if filled.body.is_some() {
            headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        }
        if let Some(key) = idempotency_key {
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(key).map_err(|error| Error::Http(error.into()))?);
        }
        Ok(request)
    }
}

fn config(dependency: &Dependency) -> Config {
    let connections = dependency.concurrency.max(1) as usize;
    Config::builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .timeout_global(Some(dependency.timeout))
        .max_idle_connections(connections)
        .max_idle_connections_per_host(connections)
        .max_response_header_size(MAX_HEAD)
        .input_buffer_size(BUFFER)
        .output_buffer_size(OUTPUT)
        .user_agent(concat!("dripfeed/", env!("CARGO_PKG_VERSION")))
        .build()
}

fn read(body: Body) -> AnswerBody {
    let mut bytes = Vec::new();
    let mut reader = body.into_with_config().limit(MAX_ANSWER as u64).reader();
    match reader.read_to_end(&mut bytes) {
        Ok(_) => AnswerBody::Whole(bytes),
        Err(error) => match Error::from(error) {
            Error::BodyExceedsLimit(_) => AnswerBody::TooLarge(bytes),
            error => AnswerBody::Broken(bytes, told(&error)),
        },
    }
}

/// What an error means, without the URL, which some of ureq's errors quote.
fn told(error: &Error) -> CallError {
    let unanswered = |code, what: String| CallError { code, effect: Effect::Perhaps, what };
    match error {
        Error::Other(inner) => match inner.downcast_ref::<NotConnected>() {
            Some(NotConnected(call)) => call.clone(),
            None => unanswered(FailureCode::Connection, "the connection failed".to_owned()),
        },
        Error::Timeout(_) => unanswered(FailureCode::Timeout, "no answer in time".to_owned()),
        Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
            unanswered(FailureCode::Timeout, "no answer in time".to_owned())
        }
        Error::Io(error) => unanswered(FailureCode::Connection, format!("the connection broke ({})", error.kind())),
        Error::Rustls(error) => unanswered(FailureCode::Connection, format!("no TLS connection ({error})")),
        Error::Http(_) | Error::BadUri(_) => CallError {
            code: FailureCode::Connection,
            effect: Effect::NotSent,
            what: "the request cannot be written as HTTP".to_owned(),
        },
        _ => unanswered(FailureCode::Connection, "what came back is not HTTP".to_owned()),
    }
}

/// A failure before the first byte could leave.
#[derive(Debug)]
struct NotConnected(CallError);

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for NotConnected {}

fn not_connected(error: Error, doing: &str) -> Error {
    let (code, why) = match &error {
        Error::Timeout(_) => (FailureCode::Timeout, "it took too long".to_owned()),
        Error::Io(error) => (FailureCode::Connection, error.kind().to_string()),
        Error::HostNotFound => (FailureCode::Connection, "host not found".to_owned()),
        Error::Rustls(error) => (FailureCode::Connection, error.to_string()),
        _ => (FailureCode::Connection, "it failed".to_owned()),
    };
    let what = format!("{doing} ({why})");
    Error::Other(Box::new(NotConnected(CallError { code, effect: Effect::NotSent, what })))
}

/// Makes connections, and says of every failure that nothing was sent.
#[derive(Debug)]
struct Dialer<R> {
    tls: RustlsConnector,
    names: Arc<Remembering<R>>,
}

impl<R: Resolver> Connector<()> for Dialer<R> {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        let socket = Socket::connect(details).map(Gathering::new);
        let connected = socket.and_then(|socket| self.tls.connect(details, Some(socket)));
        let connected = connected.map_err(|error| {
            // Perhaps the name has moved.
            self.names.forget(details.uri);
            not_connected(error, "no connection")
        })?;
        Ok(connected.map(|connection| Box::new(connection) as Self::Out))
    }
}

/// Looks names up, and says of every failure that nothing was sent.
#[derive(Debug)]
struct Names<R>(Arc<Remembering<R>>);

impl<R: Resolver> Resolver for Names<R> {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        self.0.resolve(uri, config, timeout).map_err(|error| not_connected(error, "no address for its name"))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        io::{BufRead, BufReader, Write},
        net::{SocketAddr, TcpListener},
        sync::Mutex,
        thread,
        time::Duration,
    };

    use super::*;
    use crate::{downstream::resolver::LIFETIME, model::Timestamp};

    /// Knows one name, whose address can be changed.
    #[derive(Debug, Clone)]
    struct OneName(Arc<Mutex<SocketAddr>>);

    impl Resolver for OneName {
        fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
            let mut addresses = self.empty();
            addresses.push(*self.0.lock().expect("not poisoned"));
            Ok(addresses)
        }
    }

    /// Answers the first request of every connection with this status, and closes it.
    fn server(status: u16) -> SocketAddr {
        serve(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), 1)
    }

    /// Answers every request of every connection with this status, and keeps them open.
    fn keeping_server(status: u16) -> SocketAddr {
        serve(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"), usize::MAX)
    }

    fn serve(answer: String, requests: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let answer = answer.clone();
                thread::spawn(move || {
                    let reader = BufReader::new(stream.try_clone().expect("a stream"));
                    let ends = reader.lines().map_while(Result::ok).filter(String::is_empty);
                    ends.take(requests).try_for_each(|_| stream.write_all(answer.as_bytes()))
                });
            }
        });
        address
    }

    fn dependency() -> Dependency {
        Dependency {
            name: "addresses".to_owned(),
            base_url: "http://addresses.example".to_owned(),
            rate_per_second: 1.0,
            burst: 1,
            concurrency: 1,
            timeout: Duration::from_secs(10),
            gate_after: 1,
            max_retry_after: Duration::from_secs(3_600),
            headers: BTreeMap::new(),
        }
    }

    fn get() -> Filled {
        let (path, query) = ("/".to_owned(), String::new());
        Filled { method: Method::Get, path, query, headers: Vec::new(), body: None }
    }

    #[test]
    fn a_name_that_moves_is_followed_after_a_while_and_at_once_where_nobody_listens() {
        let clock = Clock::manual(Timestamp(0));
        let name = OneName(Arc::new(Mutex::new(server(201))));
        let client = Client::with_resolver(&dependency(), name.clone(), clock.clone()).expect("a client");
        let status = || client.call(&get(), None).map(|answer| answer.status);
        let move_to = |address| *name.0.lock().expect("not poisoned") = address;
        assert_eq!(status(), Ok(201));

        move_to(server(202));
        assert_eq!(status(), Ok(201), "the old address is still believed");
        clock.advance(LIFETIME);
        assert_eq!(status(), Ok(202));

        let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        move_to(nobody);
        clock.advance(LIFETIME);
        assert_eq!(status().map_err(|error| error.effect), Err(Effect::NotSent));
        move_to(server(203));
        assert_eq!(status(), Ok(203));
    }

    #[test]
    fn a_name_that_moves_is_followed_although_the_old_address_keeps_its_connections() {
        let clock = Clock::manual(Timestamp(0));
        let name = OneName(Arc::new(Mutex::new(keeping_server(201))));
        let client = Client::with_resolver(&dependency(), name.clone(), clock.clone()).expect("a client");
        let status = || client.call(&get(), None).map(|answer| answer.status);
        assert_eq!((status(), status()), (Ok(201), Ok(201)));

        *name.0.lock().expect("not poisoned") = keeping_server(202);
        clock.advance(LIFETIME);
        // The request that finds the name moved may still go where there is a connection.
        status().expect("an answer");
        assert_eq!((status(), status()), (Ok(202), Ok(202)));
    }

    #[test]
    fn a_body_goes_with_every_method_that_has_one() {
        let base_url = format!("http://{}", server(200));
        let client = Client::new(&Dependency { base_url, ..dependency() }, Clock::machine()).expect("a client");
        for method in [Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete] {
            for body in [None, Some(b"{}".to_vec())] {
                let filled = Filled { method, body, ..get() };
                assert_eq!(client.call(&filled, None).map(|answer| answer.status), Ok(200), "{method:?}");
            }
        }
    }

    #[test]
    fn settings_that_cannot_be_sent_are_refused_and_not_told() {
        let with = |base_url: &str, header: &str| Dependency {
            base_url: base_url.to_owned(),
            headers: BTreeMap::from([("X-Key".to_owned(), header.to_owned())]),
            ..dependency()
        };
        let refused = |dependency: &Dependency| Client::new(dependency, Clock::machine()).err();
        for base_url in ["", "addresses", "ftp://addresses", "/addresses", "http://"] {
            assert_eq!(refused(&with(base_url, "s3cret")), Some(ClientError::BaseUrl), "{base_url}");
        }
        assert_eq!(refused(&with("http://a", "s3cret\n")), Some(ClientError::Header("X-Key".to_owned())));
    }
}
