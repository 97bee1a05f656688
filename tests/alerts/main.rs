//! What an operator is told without asking: dispatch calls that stop, and alerts.

#[path = "../support/mod.rs"]
mod support;

mod ticks;

use std::process::Output;

use serde_json::Value;
use support::app::{App, OPERATOR};

/// How everything is.
fn overview(app: &App) -> Value {
    let (status, overview) = app.get(OPERATOR, "/ops/v1/overview");
    assert_eq!(status, 200, "{overview}");
    overview
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The lines of the log with this message.
fn logged(app: &App, message: &str) -> Vec<Value> {
    let log = app.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["fields"]["message"] == message).collect()
}
