//! `GET /metrics`: what Prometheus reads.

use warp::{
    http::{HeaderValue, header},
    reply::Response,
};

use super::{
    access::Caller,
    answer::{Answer, blocking},
    problem::Problem,
    request::Request,
};
use crate::telemetry::metrics::scrape;

/// The format's own name for itself (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// No limit holds a scrape up: it is wanted most when everybody asks much.
pub(super) async fn metrics(request: Request) -> Answer {
    let text = blocking(move || {
        match request.uncounted_caller()? {
            Caller::Watcher => {}
            other => drop(other.operator()?),
        }
        scrape::text(request.appliance()).map_err(|error| {
            tracing::error!(event = "metrics.unwritten", %error, "the metrics cannot be written");
            Problem::internal()
        })
    });
    let mut response = Response::new(text.await?.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(FORMAT));
    Ok(response)
}
