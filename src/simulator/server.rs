//! The simulator's HTTP side.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};
use warp::hyper::{Method, Request, Response, body::Incoming, header, server::conn::http1, service::service_fn};

use super::{
    calls::{self, Answer, Call},
    ledger::{Admission, Ledger},
    lock,
};

/// The largest body that is read.
const LARGEST_BODY: usize = 64 * 1024;
/// How long a call that is never answered is held at most.
const LONGEST_HANG: Duration = Duration::from_secs(120);

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
        let ledger = ledger.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(ledger.clone(), latency, request));
            // A connection that breaks is the caller's business.
            let _ =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    ledger: Arc<Mutex<Ledger>>,
    latency: Duration,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let call = match (request.method(), request.uri().path()) {
        (&Method::POST, "/address-links") => Call::AddressLinks,
        (&Method::GET, "/addresses") => Call::GetAddresses,
        (&Method::POST, "/invites") => Call::InviteCreate,
        (&Method::GET, "/stats") => {
            let stats = lock(&ledger).stats();
            return Ok(response((200, serde_json::to_value(stats).unwrap_or_default())));
        }
        _ => return Ok(response((404, json!({ "error": "there is no such path" })))),
    };
    let admission = lock(&ledger).admit(call);
    match admission {
        Admission::Answer => {}
        Admission::Error => return Ok(response((500, json!({ "error": "as the simulator was told to" })))),
        Admission::Hang => {
            // What was asked for is done; nobody hears of it.
            perform(&ledger, call, request).await;
            tokio::time::sleep(LONGEST_HANG).await;
            return Ok(response((504, json!({ "error": "as the simulator was told to" }))));
        }
        Admission::TooMany(seconds) => {
            let mut refused = response((429, json!({ "error": "too many requests" })));
            refused.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            return Ok(refused);
        }
    }
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    Ok(response(perform(&ledger, call, request).await))
}

async fn perform(ledger: &Mutex<Ledger>, call: Call, request: Request<Incoming>) -> Answer {
    let key = request.headers().get("idempotency-key").map(|key| key.as_bytes().to_vec());
    let query = request.uri().query().unwrap_or_default().to_owned();
    let Ok(body) = Limited::new(request.into_body(), LARGEST_BODY).collect().await else {
        return (413, json!({ "error": "the body is too large, or broke off" }));
    };
    let body = body.to_bytes();
    match call {
        Call::AddressLinks => calls::address_links(&body),
        Call::GetAddresses => {
            // Links have only characters that need no decoding.
            let link = query.split('&').find_map(|pair| pair.strip_prefix("link="));
            calls::addresses(link.unwrap_or_default())
        }
        Call::InviteCreate => lock(ledger).create_invite(key.as_deref(), &body),
    }
}

fn response((status, body): (u16, Value)) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    if let Ok(status) = warp::http::StatusCode::from_u16(status) {
        *response.status_mut() = status;
    }
    let json = warp::http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
