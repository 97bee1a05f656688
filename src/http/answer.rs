//! From a handler's result to a response: the request id, the JSON, the log line.

use std::{
    future::Future,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rayon::ThreadPool;
use serde::Serialize;
use tokio::sync::{Semaphore, oneshot};
use tracing::{Instrument, Span, field};
use warp::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{
    access::Caller,
    problem::{PROBLEM_TYPE, Problem},
};
use crate::{crash_point::crash_point, panics, store::as_guest, telemetry::metrics::Requests};

/// Stands beside an answer till it is counted.
#[derive(Clone, Copy)]
struct Handled {
    /// The pattern of its path.
    route: &'static str,
    took: Duration,
}

/// Handlers that block at once. Uploads have threads of their own beside these, and so have probes.
pub const HANDLERS: usize = 32;
/// Probes that block at once.
pub const PROBES_AT_ONCE: usize = 4;
static TURNS: Semaphore = Semaphore::const_new(HANDLERS);
static PROBE_TURNS: Semaphore = Semaphore::const_new(PROBES_AT_ONCE);

/// Routes that machines ask every few seconds.
const PROBES: [&str; 3] = ["/livez", "/readyz", "/metrics"];
/// What whoever shows the dispatch token is called.
const DISPATCHER: &str = "dispatcher";
/// ... the metrics token.
const WATCHER: &str = "watcher";
/// What keeps browsers from making more of an answer than it is (OWASP, REST Security).
const SAFETY: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::CACHE_CONTROL, "no-store"),
];
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a handler gives.
pub type Answer = Result<Response, Problem>;

/// Headers that go with an answer, whatever becomes of its handler.
type Headers = Arc<Mutex<HeaderMap>>;

tokio::task_local! {
    /// Those of the request that is being handled.
    static BESIDE: Headers;
}

/// Adds headers to whatever the handler, which this is called from, will answer.
pub fn beside(add: impl FnOnce(&mut HeaderMap)) {
    // Outside of a handler there is no answer to add to.
    let _ = BESIDE.try_with(|headers| add(&mut lock(headers)));
}

fn lock(headers: &Headers) -> std::sync::MutexGuard<'_, HeaderMap> {
    headers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a handler, gives its answer a request id, and logs one line. `route` is the pattern and not the path, which
/// may hold what does not belong into a log.
pub async fn answer(route: &'static str, handler: impl Future<Output = Answer>) -> Response {
    let request_id = new_request_id();
    let begun = Instant::now();
    // Whatever is logged meanwhile, on whichever thread, is logged under the request's id.
    let span = tracing::error_span!(
        "request",
        request_id,
        client = field::Empty,
        operator = field::Empty,
        origin = field::Empty
    );
    let headers = Headers::default();
    let handled = panics::caught(BESIDE.scope(headers.clone(), handler.instrument(span.clone()))).await;
    let answered = handled.unwrap_or_else(|_| Err(Problem::internal()));
    let code = answered.as_ref().err().map(Problem::code);
    let mut response = answered.unwrap_or_else(|problem| problem.into_response(&request_id));
    response.headers_mut().extend(std::mem::take(&mut *lock(&headers)));
    let took = begun.elapsed();
    response.extensions_mut().insert(Handled { route, took });
    let (status, duration_ms) = (response.status().as_u16(), took.as_millis() as u64);
    span.in_scope(|| match code {
        // Whoever asks all the time is not worth a line each time, as long as nothing is wrong.
        None if PROBES.contains(&route) => {
            tracing::debug!(event = "probe.answered", route, status, duration_ms, "probe answered");
        }
        code => tracing::info!(event = "request.answered", route, status, code, duration_ms, "request answered"),
    });
    identified(response, &request_id)
}

/// Says who sends the request, in whatever is logged of it from here on.
pub fn sent_by(who: &Caller) {
    let span = Span::current();
    match who {
        Caller::Client(client, _) => span.record("client", &client.name),
        Caller::Operator(name, _) => span.record("operator", name),
        Caller::Dispatcher => span.record("operator", DISPATCHER),
        Caller::Watcher => span.record("operator", WATCHER),
    };
}

/// Says where the request comes from, in whatever is logged of it from here on: for one whose sender is not known.
pub fn sent_from(origin: Option<IpAddr>) {
    if let Some(origin) = origin {
        Span::current().record("origin", field::display(origin));
    }
}

/// That it is done, and nothing is to be said of it.
pub fn no_content() -> Answer {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// A JSON answer.
pub fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).map_err(|error| not_written(&error))?;
    Ok(json_of(status, body.into()))
}

/// An answer of bytes that are JSON.
pub(super) fn json_of(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) fn not_written(error: &serde_json::Error) -> Problem {
    tracing::error!(event = "answer.not_written", %error, "an answer could not be written");
    Problem::internal()
}

/// What is longer than any answer may be. Nothing that is stored is.
pub(super) fn too_long() -> Problem {
    tracing::error!(event = "answer.not_written", "an answer is longer than any may be");
    Problem::internal()
}

/// Runs what blocks (the database, files) on a thread where that is allowed, once there is one for it.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    // It is never closed.
    let _turn = TURNS.acquire().await;
    on_a_thread(work).await
}

/// The same for probes, which have threads of their own: they are asked for when everything else is taken.
pub async fn probing<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let _turn = PROBE_TURNS.acquire().await;
    on_a_thread(work).await
}

/// The same for what makes a long answer, on one of `threads`, which are few.
pub(super) async fn making<T: Send + 'static>(
    threads: &ThreadPool,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let (tell, told) = oneshot::channel();
    let handle = handling(work);
    threads.spawn(move || {
        // Nobody hears it who has gone away meanwhile.
        let _ = tell.send(catch_unwind(AssertUnwindSafe(handle)));
    });
    match told.await {
        Ok(Ok(made)) => made,
        Ok(Err(_)) | Err(_) => Err(ended_abnormally(true)),
    }
}

async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let ended = tokio::task::spawn_blocking(handling(work)).await;
    ended.unwrap_or_else(|error| Err(ended_abnormally(error.is_panic())))
}

/// The work of a handler, for whichever thread: under the request's span and beside its headers. Its writes are a guest's, and
/// whoever runs it answers for its panics.
fn handling<T>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> impl FnOnce() -> Result<T, Problem> + Send + 'static {
    let (span, headers) = (Span::current(), BESIDE.try_with(Clone::clone).unwrap_or_default());
    let handle = || {
        crash_point("request.handling");
        as_guest(work)
    };
    move || panics::contained(|| BESIDE.sync_scope(headers, || span.in_scope(handle)))
}

/// Says so without the error itself: it quotes what a panic said.
fn ended_abnormally(panicked: bool) -> Problem {
    tracing::error!(event = "request.ended_abnormally", panicked, "a handler ended abnormally");
    Problem::internal()
}

/// An answer to a request that no route takes.
pub fn unrouted(problem: Problem) -> Response {
    let request_id = new_request_id();
    let (code, response) = (problem.code(), of_route("none", problem.into_response(&request_id)));
    let status = response.status().as_u16();
    tracing::info!(event = "request.answered", request_id, route = "none", status, code, "request answered");
    identified(response, &request_id)
}

/// A whole answer to what did not become a request: no route sees it, and the connection ends behind it.
pub fn unheard(problem: Problem, requests: &Requests) -> Bytes {
    let request_id = new_request_id();
    let (code, status, body) = (problem.code(), problem.status(), problem.body(&request_id));
    requests.answered("none", status.as_u16(), Duration::ZERO);
    let number = status.as_u16();
    tracing::info!(event = "request.answered", request_id, route = "none", status = number, code, "request answered");
    let head = format!(
        "HTTP/1.1 {number} {reason}\r\ncontent-type: {PROBLEM_TYPE}\r\ncontent-length: {length}\r\n{REQUEST_ID}: \
         {request_id}\r\n",
        reason = status.canonical_reason().unwrap_or_default(),
        length = body.len(),
    );
    let again = problem.retry_after_seconds().map(|seconds| format!("{}: {seconds}\r\n", header::RETRY_AFTER));
    let safety: String = SAFETY.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let again = again.unwrap_or_default();
    [head.as_bytes(), again.as_bytes(), safety.as_bytes(), b"connection: close\r\n\r\n", &body].concat().into()
}

/// An answer that no handler gave.
pub fn of_route(route: &'static str, mut response: Response) -> Response {
    response.extensions_mut().insert(Handled { route, took: Duration::ZERO });
    response
}

/// What every answer has, whichever route gave it: it is counted, and gets an id, and the headers of [`SAFETY`].
pub fn finished(mut response: Response, requests: &Requests) -> Response {
    if let Some(Handled { route, took }) = response.extensions_mut().remove() {
        requests.answered(route, response.status().as_u16(), took);
    }
    let headers = response.headers_mut();
    for (name, value) in SAFETY {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if headers.contains_key(REQUEST_ID) { response } else { identified(response, &new_request_id()) }
}

fn new_request_id() -> String {
    format!("req_{}", ulid::Ulid::generate())
}

fn identified(mut response: Response, request_id: &str) -> Response {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
