//! The simulator's HTTP side.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
};
use warp::{
    http::{HeaderValue, StatusCode},
    hyper::{
        Method, Request, Response,
        body::Incoming,
        header::{self, Entry},
        server::conn::http1,
        service::service_fn,
    },
};

use super::{
    body::Sent,
    calls::{self, Answer, Call},
    ledger::{Admission, Ledger},
    lock,
    script::{Asked, Behaviour, Fault},
};

/// The largest body that is read.
const LARGEST_BODY: usize = 64 * 1024;
/// How long a call that is never answered is held at most.
const LONGEST_HANG: Duration = Duration::from_secs(120);
/// What a connection that is closed behind an answer is left at least, so that the answer gets out.
const LAST_WORDS: Duration = Duration::from_millis(5);

/// Answers until `end` is told.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    ledger: Arc<Mutex<Ledger>>,
    latency: Duration,
    end: Arc<Notify>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.notified() => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        // Answers are small: waiting to fill a packet would only add latency of its own.
        let _ = stream.set_nodelay(true);
        tokio::spawn(connection(stream, ledger.clone(), latency));
    }
}

/// Serves one connection, until either side ends it.
async fn connection(stream: TcpStream, ledger: Arc<Mutex<Ledger>>, latency: Duration) {
    let (closes, mut told) = mpsc::unbounded_channel();
    let service = service_fn(move |request| {
        let desk = Desk { ledger: ledger.clone(), latency, closes: closes.clone() };
        desk.answer(request)
    });
    let serving = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let closed = async {
        match told.recv().await {
            Some(after) => tokio::time::sleep(LAST_WORDS.max(after)).await,
            None => std::future::pending().await,
        }
    };
    // A connection that breaks is the caller's business.
    tokio::select! {
        _ = serving => {}
        () = closed => {}
    }
}

/// A call as it came.
struct Received {
    method: Method,
    path: String,
    query: String,
    key: Option<HeaderValue>,
    body: Bytes,
}

impl Received {
    /// `None` for a body that is too large, or breaks off.
    async fn read(request: Request<Incoming>) -> Option<Self> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, LARGEST_BODY).collect().await.ok()?.to_bytes();
        let key = head.headers.get("idempotency-key").cloned();
        let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
        Some(Self { method: head.method, path, query, key, body })
    }

    fn call(&self) -> Option<Call> {
        match (&self.method, self.path.as_str()) {
            (&Method::POST, "/address-links") => Some(Call::AddressLinks),
            (&Method::GET, "/addresses") => Some(Call::GetAddresses),
            (&Method::POST, "/invites") => Some(Call::InviteCreate),
            _ => None,
        }
    }

    fn key(&self) -> Option<&[u8]> {
        self.key.as_ref().map(HeaderValue::as_bytes)
    }

    fn asked(&self) -> Asked<'_> {
        Asked { path: &self.path, query: &self.query, key: self.key(), body: &self.body }
    }
}

/// Where the calls of a connection are answered.
struct Desk {
    ledger: Arc<Mutex<Ledger>>,
    latency: Duration,
    /// When the connection is to be closed, from now.
    closes: mpsc::UnboundedSender<Duration>,
}

impl Desk {
    /// An error closes the connection without an answer.
    async fn answer(self, request: Request<Incoming>) -> io::Result<Response<Sent>> {
        let Some(received) = Received::read(request).await else {
            return Ok(response((413, json!({ "error": "the body is too large, or broke off" }))));
        };
        if (&received.method, received.path.as_str()) == (&Method::GET, "/stats") {
            let stats = lock(&self.ledger).stats();
            return Ok(response((200, serde_json::to_value(stats).unwrap_or_default())));
        }
        let call = received.call();
        let admission = lock(&self.ledger).admit(call, &received.asked());
        Ok(match admission {
            Admission::Answer => {
                pass(self.latency).await;
                response(self.perform(&received))
            }
            Admission::Error => response((500, json!({ "error": "as the simulator was told to" }))),
            Admission::Hang => {
                // What was asked for is done; nobody hears of it.
                self.perform(&received);
                hang().await
            }
            Admission::TooMany(seconds) => {
                let mut refused = response((429, json!({ "error": "too many requests" })));
                refused.headers_mut().insert(header::RETRY_AFTER, seconds.into());
                refused
            }
            Admission::Scripted(behaviour) => self.play(&received, &behaviour).await?,
            Admission::Unknown => response(no_such_path()),
        })
    }

    fn perform(&self, received: &Received) -> Answer {
        match received.call() {
            Some(Call::AddressLinks) => calls::address_links(&received.body),
            Some(Call::GetAddresses) => {
                // Links have only characters that need no decoding.
                let link = received.query.split('&').find_map(|pair| pair.strip_prefix("link="));
                calls::addresses(link.unwrap_or_default())
            }
            Some(Call::InviteCreate) => lock(&self.ledger).create_invite(received.key(), &received.body),
            None => no_such_path(),
        }
    }

    /// As a rule says.
    async fn play(&self, received: &Received, behaviour: &Behaviour) -> io::Result<Response<Sent>> {
        let (status, body) = if behaviour.is_done { self.perform(received) } else { (200, Value::Null) };
        pass(behaviour.latency.unwrap_or(self.latency)).await;
        let mut answer = response((status, body));
        match behaviour.fault {
            Some(Fault::Timeout) => return Ok(hang().await),
            Some(Fault::Connection) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Some(Fault::CutOff) | None => {}
        }
        if let Some(status) = behaviour.status {
            *answer.status_mut() = status;
        }
        if let Some(body) = &behaviour.body {
            *answer.body_mut() = Sent::Whole(Some(body.clone()));
        }
        let mut named = Vec::new();
        for (name, text) in &behaviour.headers {
            // The first of a name takes the place of the usual one, more of that name stand beside it.
            let again = named.contains(&name);
            named.push(name);
            match answer.headers_mut().entry(name) {
                Entry::Occupied(mut usual) if again => usual.append(text.value()),
                Entry::Occupied(mut usual) => drop(usual.insert(text.value())),
                Entry::Vacant(free) => drop(free.insert(text.value())),
            }
        }
        if behaviour.fault == Some(Fault::CutOff) {
            let whole = std::mem::replace(answer.body_mut(), Sent::Whole(None));
            answer.headers_mut().insert(header::CONTENT_LENGTH, whole.announced().into());
            *answer.body_mut() = whole.cut_off();
        }
        if let Some(after) = behaviour.closes_after {
            let _ = self.closes.send(after);
        }
        Ok(answer)
    }
}

async fn pass(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

async fn hang() -> Response<Sent> {
    tokio::time::sleep(LONGEST_HANG).await;
    response((504, json!({ "error": "as the simulator was told to" })))
}

fn no_such_path() -> Answer {
    (404, json!({ "error": "there is no such path" }))
}

fn response((status, body): Answer) -> Response<Sent> {
    let mut response = Response::new(Sent::Whole(Some(Bytes::from(body.to_string()))));
    if let Ok(status) = StatusCode::from_u16(status) {
        *response.status_mut() = status;
    }
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
