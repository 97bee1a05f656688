//! Who may do what, how it is told, and whom a finished batch is announced to.

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod description;
mod dex;
mod keys;
mod limits;
mod operations;
mod problems;
mod sessions;
mod webhook;

use std::{collections::BTreeMap, io::Read, process::Output};

use serde_json::Value;
use support::app::{App, Setup, agent};

/// An answer with its headers, by lower-case name.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
}

/// A call with these headers, and no others of ours.
pub fn call(app: &App, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Told {
    let mut request = ureq::http::Request::builder().method(method).uri(app.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let agent = agent();
    let mut response = if body.is_empty() {
        agent.run(request.body(()).expect("a request"))
    } else {
        let request = request.body(body.to_owned()).expect("a request");
        agent.run(agent.configure_request(request).allow_non_standard_methods(true).build())
    }
    .expect("an answer");
    let mut text = String::new();
    response.body_mut().as_reader().read_to_string(&mut text).expect("a body");
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    Told {
        status: response.status().as_u16(),
        headers: headers.collect(),
        body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
    }
}

pub fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

pub const JSON: (&str, &str) = ("content-type", "application/json");

/// Nothing is dispatched by itself.
pub fn idle() -> Setup {
    Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() }
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What a command prints as JSON; it has to succeed.
pub fn printed(app: &App, arguments: &[&str]) -> Value {
    let output = app.command(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The actions and targets in the audit, newest first.
pub fn deeds(app: &App, key: &str) -> Vec<(String, String, String)> {
    let (status, audit) = app.get(key, "/ops/v1/audit");
    assert_eq!(status, 200, "{audit}");
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let entries = audit["entries"].as_array().expect("entries");
    entries.iter().map(|entry| (text(entry, "who"), text(entry, "action"), text(entry, "target"))).collect()
}
