//! One attempt to deliver a message to somebody's webhook: a `POST`, and what its answer means. Announcements to clients and
//! alerts to operators leave through here.

use std::time::Duration;

use ureq::{
    Agent, Error,
    http::{StatusCode, header},
};

use crate::store::deliveries::Trouble;

/// The most bytes of an answer's head; its body is not read.
const LARGEST_HEAD: usize = 16 * 1024;

/// What an attempt ran into, and what follows from that.
#[derive(Debug)]
pub struct Refused {
    /// What.
    pub trouble: Trouble,
    /// The receiver wants no messages any more.
    pub for_good: bool,
    /// The receiver wants to be left alone for so long.
    pub retry_after: Option<Duration>,
}

/// Posts messages. It keeps no connections: there are not many. It follows no redirects, since whoever can redirect
/// could send what is meant for one receiver elsewhere.
pub struct Poster(Agent);

impl Poster {
    /// Waits for so long for an answer.
    pub fn new(timeout: Duration) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_global(Some(timeout))
            .max_idle_connections(0)
            .max_response_header_size(LARGEST_HEAD)
            .user_agent(concat!("dripfeed/", env!("CARGO_PKG_VERSION")))
            .build();
        Self(agent.into())
    }

    /// Sends a message in JSON; returns the status of the answer that took it.
    pub fn post(&self, url: &str, headers: &[(&str, &str)], body: &str) -> Result<u16, Refused> {
        let request = self.0.post(url).header(header::CONTENT_TYPE, "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.send(body).map_err(|error| Refused::unanswered(told(&error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(status.as_u16());
        }
        let retry_after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Err(Refused {
            trouble: Trouble {
                http_status: Some(status.as_u16()),
                what: format!("the receiver answered {}", status.as_u16()),
            },
            for_good: status == StatusCode::GONE,
            retry_after: retry_after.map(Duration::from_secs),
        })
    }
}

impl Refused {
    /// No answer came.
    pub fn unanswered(what: impl Into<String>) -> Self {
        Self { trouble: Trouble { http_status: None, what: what.into() }, for_good: false, retry_after: None }
    }

    /// There is nobody to send it to.
    pub fn for_good(what: impl Into<String>) -> Self {
        Self { for_good: true, ..Self::unanswered(what) }
    }
}

/// What an error means, without the address, which some of ureq's errors quote.
fn told(error: &Error) -> String {
    match error {
        Error::Timeout(_) => "no answer in time".to_owned(),
        Error::HostNotFound => "the host was not found".to_owned(),
        Error::Io(error) => format!("the connection failed ({})", error.kind()),
        Error::Rustls(error) => format!("no TLS connection ({error})"),
        _ => "the connection failed".to_owned(),
    }
}
