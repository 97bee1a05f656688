//! One HTTP request and its whole answer, within limits.

use ureq::{
    Agent,
    http::{self, HeaderMap},
    unversioned::transport::DefaultConnector,
};

use super::{request::Request, resolver::CachingResolver};
use crate::model::{Dependency, outcome::Reached};

/// The largest answer that is read.
pub const LARGEST_ANSWER: u64 = 1024 * 1024;
/// Each connection's buffers; requests and answers are small.
const BUFFER: usize = 16 * 1024;
const USER_AGENT: &str = concat!("dripfeed/", env!("CARGO_PKG_VERSION"));

/// Calls one dependency.
pub(super) struct Client {
    agent: Agent,
    base_url: String,
    headers: Vec<(String, String)>,
}

/// What came back.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// `None` where it was larger than [`LARGEST_ANSWER`].
    pub body: Option<Vec<u8>>,
}

/// Why nothing came back.
#[derive(Debug)]
pub(super) struct NoAnswer {
    pub reached: Reached,
    pub timed_out: bool,
    /// A few words for a person, without anything of the request.
    pub what: &'static str,
}

impl Client {
    pub(super) fn new(dependency: &Dependency) -> Self {
        let connections = dependency.concurrency as usize;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_global(Some(dependency.timeout))
            .max_idle_connections(connections)
            .max_idle_connections_per_host(connections)
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .user_agent(USER_AGENT)
            .build();
        Self {
            agent: Agent::with_parts(config, DefaultConnector::default(), CachingResolver::default()),
            base_url: dependency.base_url.clone(),
            headers: dependency.headers.clone().into_iter().collect(),
        }
    }

    /// Sends the request and reads the answer to its end, so that the connection can be used again.
    pub(super) fn call(&self, request: &Request, idempotency_key: Option<&str>) -> Result<Answer, NoAnswer> {
        let mut builder = http::Request::builder()
            .method(request.method.as_str())
            .uri(format!("{}{}", self.base_url, request.path_and_query));
        for (name, value) in self.headers.iter().chain(&request.headers) {
            builder = builder.header(name, value);
        }
        if let Some(key) = idempotency_key {
            builder = builder.header("Idempotency-Key", key);
        }
        let sent = match &request.body {
            Some(body) => {
                let request = builder.header("Content-Type", "application/json").body(body.as_slice());
                self.agent.run(request.map_err(|_| unsendable())?)
            }
            None => self.agent.run(builder.body(()).map_err(|_| unsendable())?),
        };
        let mut response = sent.map_err(|error| no_answer(&error))?;
        let body = match response.body_mut().with_config().limit(LARGEST_ANSWER).read_to_vec() {
            Ok(body) => Some(body),
            Err(ureq::Error::BodyExceedsLimit(_)) => None,
            Err(error) => return Err(NoAnswer { reached: Reached::Unanswered, ..no_answer(&error) }),
        };
        Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), body })
    }
}

fn unsendable() -> NoAnswer {
    NoAnswer { reached: Reached::NotSent, timed_out: false, what: "the request's URL or headers are not valid HTTP" }
}

/// Only where nothing can have been written is a request known not to have been sent.
fn no_answer(error: &ureq::Error) -> NoAnswer {
    use std::io::ErrorKind as Io;
    use ureq::{Error, Timeout};
    let (reached, timed_out, what) = match error {
        Error::HostNotFound => (Reached::NotSent, false, "its name was not found"),
        Error::ConnectionFailed => (Reached::NotSent, false, "no connection could be made"),
        Error::Timeout(Timeout::Resolve) => (Reached::NotSent, true, "its name was not found in time"),
        Error::Timeout(Timeout::Connect) => (Reached::NotSent, true, "no connection could be made in time"),
        Error::Timeout(_) => (Reached::Unanswered, true, "no answer came in time"),
        Error::Tls(_) | Error::Rustls(_) => (Reached::NotSent, false, "no TLS connection could be made"),
        Error::Io(error)
            if matches!(error.kind(), Io::ConnectionRefused | Io::HostUnreachable | Io::NetworkUnreachable) =>
        {
            (Reached::NotSent, false, "the connection was refused")
        }
        Error::Io(_) => (Reached::Unanswered, false, "the connection broke"),
        _ => (Reached::Unanswered, false, "the answer was not HTTP"),
    };
    NoAnswer { reached, timed_out, what }
}
