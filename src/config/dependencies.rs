//! `[dependencies.NAME]`: the APIs that steps call.

use std::{collections::BTreeMap, time::Duration};

use super::reader::Section;
use crate::model::{Concurrency, Dependency};

/// Requests that may leave at once after a quiet time, where it is not said.
const BURST: u32 = 1;
/// The most requests to one dependency that can be under way at once: each holds a connection, of which a process has
/// some 28,000 towards one address by default, and some kilobytes.
const MOST_CONCURRENCY: u32 = 16_384;
/// The most that `concurrency = "auto"` comes to, where it is not said: 200 a second at a second's latency.
const MAX_CONCURRENCY: u32 = 256;
/// For a whole request, where it is not said.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Failures in a row that close the gate, where it is not said.
const GATE_AFTER: u32 = 5;
/// The longest pause that a `Retry-After` can ask for, where it is not said.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// The longest rest of a kept connection that is used again, where it is not said: less than the five seconds after which
/// many servers end one.
const MAX_IDLE: Duration = Duration::from_secs(4);

pub(super) fn read(sections: Vec<(String, Section<'_>)>) -> BTreeMap<String, Dependency> {
    sections.into_iter().map(|(name, section)| (name.clone(), read_one(name, section))).collect()
}

fn read_one(name: String, mut section: Section<'_>) -> Dependency {
    super::check_name(&section, &name);
    let base_url = section.text("base_url").unwrap_or_else(|| {
        section.fault("base_url", "is missing");
        String::new()
    });
    if !base_url.is_empty() && !is_base_url(&base_url) {
        section.fault("base_url", "is a URL like \"https://api.example.com/v1\", without query and fragment");
    }
    let given = section.has("rate_per_second");
    let rate_per_second = section.positive("rate_per_second");
    if !given {
        section.fault("rate_per_second", "is missing: how many requests a second the API allows");
    }
    let dependency = Dependency {
        name,
        base_url: base_url.trim_end_matches('/').to_owned(),
        rate_per_second: rate_per_second.unwrap_or(1.0),
        burst: section.integer("burst", BURST, 1..=100_000),
        concurrency: concurrency(&mut section),
        max_concurrency: section.integer("max_concurrency", MAX_CONCURRENCY, 1..=MOST_CONCURRENCY),
        adapt: section.flag("adapt", true),
        timeout: section.duration("timeout", TIMEOUT),
        gate_after: section.integer("gate_after", GATE_AFTER, 1..=1_000_000),
        max_retry_after: section.duration("max_retry_after", MAX_RETRY_AFTER),
        max_idle: section.duration("max_idle", MAX_IDLE),
        headers: section.text_map("headers", true),
    };
    if dependency.timeout.is_zero() {
        section.fault("timeout", "is longer than 0s");
    }
    section.finish();
    dependency
}

fn concurrency(section: &mut Section<'_>) -> Concurrency {
    let limit = section.integer_or("concurrency", "auto", 1..=MOST_CONCURRENCY);
    limit.map_or(Concurrency::Auto, Concurrency::Fixed)
}

pub(super) fn is_base_url(text: &str) -> bool {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let is_plain = |c: char| c.is_ascii_graphic() && !"?#@\\\"<>".contains(c);
    host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', ':']) && host.chars().all(is_plain))
}
