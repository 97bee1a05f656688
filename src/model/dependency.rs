//! A dependency: a downstream API that steps call, and how fast it may be called.

use std::{collections::BTreeMap, time::Duration};

/// The settings of one dependency, already checked by `config`.
#[derive(Clone, PartialEq)]
pub struct Dependency {
    /// Its name: `addresses`.
    pub name: String,
    /// Scheme, host, port and an optional path, without a trailing `/`.
    pub base_url: String,
    /// Requests a second over any length of time; more than zero, fractions are fine.
    pub rate_per_second: f64,
    /// Requests that may leave at once after a quiet time; at least 1.
    pub burst: u32,
    /// Requests under way at once.
    pub concurrency: Concurrency,
    /// The most of them that [`Concurrency::Auto`] allows; at least 1.
    pub max_concurrency: u32,
    /// Whether it is called more slowly than its rate for a while where it answers that this is too fast.
    pub adapt: bool,
    /// For a whole request, from resolving the name to the last byte of the answer.
    pub timeout: Duration,
    /// So many failures in a row (connection, timeout, 5xx) close the gate.
    pub gate_after: u32,
    /// The longest pause that an answer's `Retry-After` can ask for.
    pub max_retry_after: Duration,
    /// A kept connection that rested for longer than this is not used again.
    pub max_idle: Duration,
    /// Sent with every request. Values may be secrets, so they are never shown.
    pub headers: BTreeMap<String, String>,
}

/// How many requests may be under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// As many as the rate asks for at the latency that is measured, up to `max_concurrency`.
    Auto,
    /// So many; at least 1.
    Fixed(u32),
}

impl Dependency {
    /// The most requests that can ever be under way at once.
    pub fn most_under_way(&self) -> u32 {
        match self.concurrency {
            Concurrency::Auto => self.max_concurrency,
            Concurrency::Fixed(most) => most,
        }
        .max(1)
    }
}

impl std::fmt::Debug for Dependency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dependency")
            .field("name", &self.name)
            .field("rate_per_second", &self.rate_per_second)
            .field("headers", &self.headers.keys())
            .finish_non_exhaustive()
    }
}
