//! `/metrics`: who may read them, whether they are what Prometheus takes, and whether they tell what happened.

#[path = "../support/mod.rs"]
mod support;

mod bounded;
mod format;
mod shown;
mod values;
mod who;

use std::io::Read;

use format::Scrape;
use support::app::{App, DISPATCH, OPERATOR, Setup, agent};

/// The token that can only read the metrics.
pub const METRICS: &str = "metrics-token-0123456789";

/// Nothing is dispatched by itself; the metrics token is set.
pub fn idle() -> Setup {
    Setup {
        dispatch: "min_interval = \"0s\"".into(),
        access: format!("metrics_token = \"{METRICS}\""),
        ..Setup::default()
    }
}

/// What a key gets at `/metrics`: status, content type, body.
pub fn asked(app: &App, key: Option<&str>) -> (u16, String, String) {
    let request = agent().get(app.url("/metrics"));
    let request = match key {
        Some(key) => request.header("Authorization", format!("Bearer {key}")),
        None => request,
    };
    let mut response = request.call().expect("an answer");
    let mut text = String::new();
    response.body_mut().as_reader().read_to_string(&mut text).expect("a body");
    let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    (response.status().as_u16(), kind.to_owned(), text)
}

/// A scrape, which has to be without a fault.
pub fn scrape(app: &App) -> Scrape {
    let (status, kind, text) = asked(app, Some(METRICS));
    assert_eq!((status, kind.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"), "{text}");
    let (scrape, faults) = Scrape::read(&text);
    assert!(faults.is_empty(), "{faults:#?}");
    scrape
}

/// One dispatch run, asked for with the dispatch token.
pub fn dispatch(app: &App) -> String {
    let (status, answer) = app.post(DISPATCH, "/ops/v1/dispatch");
    assert_eq!(status, 200, "{answer}");
    answer["outcome"].as_str().expect("an outcome").to_owned()
}

/// What an operator sees at a path.
pub fn seen(app: &App, path: &str) -> serde_json::Value {
    let (status, answer) = app.get(OPERATOR, path);
    assert_eq!(status, 200, "{answer}");
    answer
}
