//! Dispatch runs, announcements, backups, and calls of our own API.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounter, IntCounterVec, Result};

use super::families::{Families, SLOW};

/// Dispatch runs.
pub struct Runs {
    ended: IntCounterVec,
    granted: IntCounter,
}

/// Announcements to clients' webhooks.
pub struct Announcements(IntCounterVec);

/// Backups that the server takes by itself.
pub struct Backups(IntCounterVec);

/// Calls of our own API.
pub struct Requests {
    answered: IntCounterVec,
    took: HistogramVec,
}

impl Runs {
    pub(super) fn new(families: &Families<'_>) -> Result<Self> {
        let runs = Self {
            ended: families.counters(
                "dripfeed_dispatch_runs_total",
                "Dispatch runs that were asked for, by outcome: granted, already_running, too_early, paused or error.",
                &["outcome"],
            )?,
            granted: families.counter("dripfeed_dispatch_granted_rows_total", "Rows that dispatch runs granted.")?,
        };
        for outcome in ["granted", "already_running", "too_early", "paused", "error"] {
            runs.ended.with_label_values(&[outcome]);
        }
        Ok(runs)
    }

    /// A run came to this, and granted so many rows.
    pub fn ended(&self, outcome: &'static str, rows: u64) {
        self.ended.with_label_values(&[outcome]).inc();
        self.granted.inc_by(rows);
    }
}

impl Announcements {
    pub(super) fn new(families: &Families<'_>) -> Result<Self> {
        let attempts = families.counters(
            "dripfeed_webhook_attempts_total",
            "Attempts to announce a finished batch, by outcome: delivered, again (tried later) or given_up.",
            &["outcome"],
        )?;
        for outcome in ["delivered", "again", "given_up"] {
            attempts.with_label_values(&[outcome]);
        }
        Ok(Self(attempts))
    }

    /// An attempt came to this.
    pub fn attempted(&self, outcome: &'static str) {
        self.0.with_label_values(&[outcome]).inc();
    }
}

impl Backups {
    pub(super) fn new(families: &Families<'_>) -> Result<Self> {
        let ended = families.counters(
            "dripfeed_backups_total",
            "Backups that the server took by itself, by outcome: taken, failed or broken_off (the server ended).",
            &["outcome"],
        )?;
        for outcome in ["taken", "failed", "broken_off"] {
            ended.with_label_values(&[outcome]);
        }
        Ok(Self(ended))
    }

    /// A backup came to this.
    pub fn ended(&self, outcome: &'static str) {
        self.0.with_label_values(&[outcome]).inc();
    }
}

impl Requests {
    pub(super) fn new(families: &Families<'_>) -> Result<Self> {
        Ok(Self {
            answered: families.counters(
                "dripfeed_http_requests_total",
                "Requests that were answered, by the pattern of their path and the class of the status.",
                &["route", "status"],
            )?,
            took: families.histograms(
                "dripfeed_http_request_duration_seconds",
                "Time until a request's answer began, by the pattern of its path.",
                &["route"],
                SLOW,
            )?,
        })
    }

    /// A request was answered. `route` is a pattern out of the sources, never a path.
    pub fn answered(&self, route: &'static str, status: u16, took: Duration) {
        let class = match status {
            ..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        };
        self.answered.with_label_values(&[route, class]).inc();
        self.took.with_label_values(&[route]).observe(took.as_secs_f64());
    }
}
