//! `[dependencies.NAME]`: the APIs that steps call.

use std::{collections::BTreeMap, time::Duration};

use super::reader::Section;
use crate::model::Dependency;

/// Requests that may leave at once after a quiet time, where it is not said.
const BURST: u32 = 1;
/// Requests under way at once, where it is not said.
const CONCURRENCY: u32 = 16;
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
        concurrency: section.integer("concurrency", CONCURRENCY, 1..=1_024),
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

pub(super) fn is_base_url(text: &str) -> bool {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let is_plain = |c: char| c.is_ascii_graphic() && !"?#@\\\"<>".contains(c);
    host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', ':']) && host.chars().all(is_plain))
}
