//! The socket: connections, their limits, and an end that does not hang.
//!
//! warp's own server has no timeout for slow request headers and no deadline for its graceful end, so its service is
//! run on hyper's connection builder here.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::service::{Service, service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use warp::{
    filters::BoxedFilter,
    http::{HeaderValue, Method, StatusCode, header},
    reply::Response,
};

use super::{
    request::{Peer, Probe},
    stall::Impatient,
};
use crate::panics;

/// Connections that may be open at once; more have to wait to be accepted.
const CONNECTIONS: usize = 1_024;
/// How long a request's head may take to arrive, and how large it may be.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_BYTES: usize = 64 * 1024;
const HEADERS: usize = 100;
/// How long a caller may take nothing of an answer.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause after the system refuses a connection (too many open files).
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The methods that calls have.
const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The methods that a path knows, as `Allow` tells them (RFC 9110): the routes themselves are asked, so that no list has
/// to be kept beside them.
async fn methods<S>(routes: &S, path: &str) -> Option<HeaderValue>
where
    S: Service<hyper::Request<Empty<Bytes>>, Response = Response, Error = Infallible>,
{
    let mut known = Vec::new();
    for method in METHODS {
        let asked = hyper::Request::builder().method(&method).uri(path).extension(Probe).body(Empty::<Bytes>::new());
        let Ok(answer) = routes.call(asked.ok()?).await;
        if answer.status().is_success() {
            known.push(method.to_string());
        }
    }
    HeaderValue::from_str(&known.join(", ")).ok()
}

/// The next connection, once there is a place for it, with that place.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((stream, address, place))
}

/// Serves until `end` comes; requests under way then get `drain` to finish. Returns what they left of it.
pub async fn serve(
    listener: TcpListener,
    routes: BoxedFilter<(Response,)>,
    end: impl Future<Output = ()>,
    drain: Duration,
) -> Duration {
    let service = TowerToHyperService::new(warp::service(routes));
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut builder = Builder::new(hyper_util::rt::TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADERS);
    tokio::pin!(end);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = &mut end => break,
        };
        let (stream, address, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(event = "connection.not_accepted", %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let service = service.clone();
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Peer(address));
            let (service, path) = (service.clone(), request.uri().path().to_owned());
            async move {
                let mut response = service.call(request).await?;
                if response.status() == StatusCode::METHOD_NOT_ALLOWED {
                    let allowed = methods(&service, &path).await;
                    response.headers_mut().extend(allowed.map(|allowed| (header::ALLOW, allowed)));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let connection = builder.serve_connection(TokioIo::new(Impatient::new(stream, STALL_TIMEOUT)), service);
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            // A connection that breaks is the caller's business, and so is one that our faults or hyper's break.
            let _ = panics::caught(connection).await;
            drop(place);
        });
    }
    drop(listener);
    let begun = tokio::time::Instant::now();
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(event = "requests.cut_off", "requests under way did not end in time and were cut off");
    }
    drain.saturating_sub(begun.elapsed())
}
