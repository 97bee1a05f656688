//! The socket: connections, their limits, and an end that does not hang.
//!
//! warp's own server has no timeout for slow request headers and no deadline for its graceful end, so its service is
//! run on hyper's connection builder here, for HTTP/1.1 alone: what HTTP/2 would bring, streams and windows without
//! end, a proxy in front can bear better.

mod exchange;
mod handshake;
mod head;
mod places;
mod stall;
mod wire;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use hyper::{
    body::{Body, Frame, SizeHint},
    server::conn::http1::Builder,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use warp::{
    filters::BoxedFilter,
    http::{HeaderValue, Method, header},
    reply::Response,
};

pub(super) use self::exchange::{Line, no_room};
pub use self::places::Most;
use self::{
    exchange::{Exchange, UnderWay},
    head::HEAD_BYTES,
    places::Places,
    stall::Impatient,
    wire::{HEAD_TIMEOUT, Tell, Wire},
};
use super::{
    Side, answer,
    problem::Problem,
    request::{Headers, Peer},
};
use crate::{appliance::Appliance, panics, tls::Tls};

/// How many headers a request may have.
const HEADERS: usize = 100;
/// How long a connection stays open on which nothing is asked; one from a proxy in front, which keeps some ready, longer:
/// nginx closes its own after 60 s, and whoever closes first should be the one who knows what is sent next.
const IDLE: Duration = Duration::from_secs(10);
const IDLE_PROXY: Duration = Duration::from_secs(75);
/// How long a caller may take next to nothing of an answer.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How many bytes of heads and small bodies all connections hold together, beyond what each has for nothing. Where there is
/// more than one listener, each has its share: what is held at one keeps nobody out of another.
const HELD_BYTES: usize = 8 * 1024 * 1024;
/// What the system keeps of an answer that is on its way, for each connection.
const SEND_BUFFER: usize = 256 * 1024;
/// The pause after the system refuses a connection (too many open files).
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Between two lines in the log about connections that found no place, or hands that were not shaken.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// A socket, and what is served there.
pub struct Entrance {
    /// The socket.
    pub listener: TcpListener,
    /// What hands are shaken with; `None`: plain HTTP.
    pub tls: Option<Arc<Tls>>,
    /// What it is for.
    pub side: Side,
    /// What is answered.
    pub routes: BoxedFilter<(Response,)>,
    /// How many connections it can have.
    pub most: Most,
}

/// Everything that is served on a socket, and who may connect.
struct Door {
    appliance: Arc<Appliance>,
    tls: Option<Arc<Tls>>,
    side: Side,
    routes: BoxedFilter<(Response,)>,
    /// Its own: whoever takes all of one listener's keeps nobody out of another.
    places: Arc<Places>,
    tell: Tell,
    /// Whether the end has begun.
    ending: watch::Receiver<bool>,
    no_place: Seldom,
    no_handshake: Seldom,
}

/// A connection that was accepted.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    exchange: Arc<Exchange>,
    is_proxy: bool,
    /// When its first request's head has to be there.
    deadline: tokio::time::Instant,
}

/// Serves until `end` comes; requests under way then get `drain` to finish. Returns what they left of it.
pub async fn serve(
    entrances: Vec<Entrance>,
    appliance: &Arc<Appliance>,
    end: impl Future<Output = ()>,
    drain: Duration,
) -> Duration {
    let (ended, ending) = watch::channel(false);
    let graceful = GracefulShutdown::new();
    let held_bytes = HELD_BYTES / entrances.len().max(1);
    let opened = entrances.into_iter().map(|entrance| {
        let (door, listener) = Door::of(entrance, appliance.clone(), ending.clone(), held_bytes);
        let graceful = &graceful;
        async move { door.open(&listener, graceful).await }
    });
    tokio::select! {
        _ = join_all(opened) => {}
        () = end => {}
    }
    ended.send_replace(true);
    let begun = tokio::time::Instant::now();
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(event = "requests.cut_off", "requests under way did not end in time and were cut off");
    }
    drain.saturating_sub(begun.elapsed())
}

impl Door {
    fn of(
        entrance: Entrance,
        appliance: Arc<Appliance>,
        ending: watch::Receiver<bool>,
        held_bytes: usize,
    ) -> (Arc<Self>, TcpListener) {
        let Entrance { listener, tls, side, routes, most } = entrance;
        let places = Places::new(most, held_bytes);
        let tell: Tell = {
            let appliance = appliance.clone();
            Arc::new(move |problem: Problem| answer::unheard(problem, &appliance.metrics.requests))
        };
        let (no_place, no_handshake) = Default::default();
        (Arc::new(Self { appliance, tls, side, routes, places, tell, ending, no_place, no_handshake }), listener)
    }

    /// Takes connections for as long as this is polled.
    async fn open(self: &Arc<Self>, listener: &TcpListener, graceful: &GracefulShutdown) {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(event = "connection.not_accepted", %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let Some(accepted) = self.admit(stream, peer) else {
                if self.no_place.is_due() {
                    let address = peer.ip();
                    tracing::warn!(
                        event = "connection.no_place",
                        %address,
                        "a connection was closed at once: too many are at work, of this address or of all"
                    );
                }
                continue;
            };
            let (door, watcher) = (self.clone(), graceful.watcher());
            tokio::spawn(async move {
                let exchange = accepted.exchange.clone();
                let conversation = door.converse(accepted, watcher);
                tokio::select! {
                    // A connection that breaks is the caller's business, and so is one that our faults or hyper's break.
                    _ = panics::caught(conversation) => {}
                    () = exchange.given_up() => {}
                }
            });
        }
    }

    /// Gives a connection a place, if there is one.
    fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Option<Accepted> {
        let is_proxy = self.appliance.config.server.trusted_proxies.iter().any(|it| it.contains(peer.ip()));
        let place = self.places.take(capped(peer.ip(), is_proxy), Instant::now())?;
        // Without it a caller who takes nothing more has megabytes of the system's memory.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER);
        let deadline = tokio::time::Instant::now() + HEAD_TIMEOUT;
        Some(Accepted { stream, peer, exchange: Exchange::new(place), is_proxy, deadline })
    }

    async fn converse(self: Arc<Self>, accepted: Accepted, watcher: Watcher) {
        let Accepted { stream, peer, exchange, is_proxy, deadline } = accepted;
        let caller = Peer { address: peer, is_tls: self.tls.is_some(), side: self.side };
        let Some(tls) = &self.tls else {
            let stream = Impatient::new(stream, STALL_TIMEOUT);
            return self.speak(stream, caller, exchange, (deadline, is_proxy), watcher).await;
        };
        let mut ending = self.ending.clone();
        let shaken = tokio::select! {
            shaken = handshake::shake(stream, tls.acceptor(), deadline, &self.tell) => shaken,
            _ = ending.wait_for(|has_ended| *has_ended) => return,
        };
        match shaken {
            Ok(Some(stream)) => self.speak(stream, caller, exchange, (deadline, is_proxy), watcher).await,
            Ok(None) => {}
            Err(error) if self.no_handshake.is_due() => {
                let address = peer.ip();
                tracing::info!(event = "connection.no_handshake", %address, %error, "a TLS handshake came to nothing");
            }
            Err(_) => {}
        }
    }

    /// HTTP/1.1 over a stream, to its end.
    async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        caller: Peer,
        exchange: Arc<Exchange>,
        (deadline, is_proxy): (tokio::time::Instant, bool),
        watcher: Watcher,
    ) {
        let idle = if is_proxy { IDLE_PROXY } else { IDLE };
        let routes = TowerToHyperService::new(warp::service(self.routes.clone()));
        let answering = exchange.clone();
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            let under_way = answering.begin();
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(answering.line());
            let routes = routes.clone();
            async move {
                Ok::<_, Infallible>(answered(&routes, request).await?.map(|body| Held { body, _under_way: under_way }))
            }
        });
        let wire = Wire::new(stream, exchange, deadline, idle, self.tell.clone());
        let connection = Builder::new()
            .timer(TokioTimer::new())
            // The wire's own are sooner. That there is one makes hyper ask for the next head as soon as it can come.
            .header_read_timeout(idle + 2 * HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(wire), service);
        let _ = watcher.watch(connection).await;
    }
}

/// When something was told last that can happen all the time.
#[derive(Default)]
struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether it is to be told now.
    fn is_due(&self) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_none_or(|told| told.elapsed() >= TELL_AGAIN);
        if is_due {
            *told = Some(Instant::now());
        }
        is_due
    }
}

/// The address whose connections are counted: not a proxy's, behind which anybody may be.
fn capped(address: IpAddr, is_proxy: bool) -> Option<IpAddr> {
    (!is_proxy).then_some(address)
}

/// What the routes answer, and what every answer needs that they do not know of.
async fn answered<S>(routes: &S, mut request: hyper::Request<hyper::body::Incoming>) -> Result<Response, Infallible>
where
    S: Service<hyper::Request<hyper::body::Incoming>, Response = Response, Error = Infallible>,
{
    let only_head = request.method() == Method::HEAD;
    if only_head {
        *request.method_mut() = Method::GET;
    }
    // The wire does not look for the end of such a body, and so not for what follows it.
    let ends = request.headers().contains_key(header::TRANSFER_ENCODING);
    let headers: Headers = Arc::new(std::mem::take(request.headers_mut()));
    request.extensions_mut().insert(headers);
    let mut response = routes.call(request).await?;
    if ends {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(if only_head { without_body(response) } else { response })
}

/// As long as the answer would be, and nothing of it (RFC 9110, 9.3.2).
fn without_body(response: Response) -> Response {
    let length = response.body().size_hint().exact();
    let (mut parts, _) = response.into_parts();
    if let Some(length) = length {
        parts.headers.entry(header::CONTENT_LENGTH).or_insert(length.into());
    }
    Response::from_parts(parts, Default::default())
}

/// An answer's body, while which is sent the request is under way.
struct Held<B> {
    body: B,
    _under_way: UnderWay,
}

impl<B: Body + Unpin> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
