//! `[alerts]`: from when something is wrong, and who is told.

use std::{collections::BTreeMap, time::Duration};

use super::{reader::Section, secret::Secret};

/// Where it is not said.
const NAME: &str = "dripfeed";
const CHECK_EVERY: Duration = Duration::from_secs(15);
/// A vendor's short outage is nobody's business at night.
const GATE_CLOSED_FOR: Duration = Duration::from_secs(10 * 60);
/// The server frees expired claims within seconds, where it may.
const STUCK_FOR: Duration = Duration::from_secs(5 * 60);
const DISK_FREE_BELOW: u64 = 2_000_000_000;
/// SQLite puts the WAL back at 32 MB, and cuts it to 64 MiB at most.
const WAL_ABOVE: u64 = 512 * 1024 * 1024;
const WAL_ABOVE_FOR: Duration = Duration::from_secs(5 * 60);

/// Hooks at most: each has a thread.
const MOST_HOOKS: usize = 8;
/// The longest address of a hook.
const LONGEST_URL: usize = 2_000;

/// `[alerts]`
#[derive(Debug, Clone)]
pub struct Alerts {
    /// `name`: of this appliance, in every message. Default `dripfeed`.
    pub name: String,
    /// `check_every`: how often it is looked whether something is wrong. Default 15s.
    pub check_every: Duration,
    /// `gate_closed_for`: a dependency whose gate is closed for so long is told. Default 10m.
    pub gate_closed_for: Duration,
    /// `stuck_for`: claims that expired so long ago, and that nobody freed, are told. Default 5m.
    pub stuck_for: Duration,
    /// `disk_free_below`: less room than this is told. Default 2GB.
    pub disk_free_below: u64,
    /// `wal_above`: a WAL that is larger than this is told ... Default 512MiB.
    pub wal_above: u64,
    /// `wal_above_for`: ... when it stays so for so long. Default 5m.
    pub wal_above_for: Duration,
    /// `[alerts.hooks.NAME]`: who is told, by name.
    pub hooks: BTreeMap<String, Hook>,
}

/// `[alerts.hooks.NAME]`
#[derive(Debug, Clone)]
pub struct Hook {
    /// What it is called.
    pub name: String,
    /// `url`: where messages are posted to. Who knows it can write there, so it is never shown.
    pub url: Secret,
    /// `format`: what a message looks like. Default `json`.
    pub format: HookFormat,
}

/// The form of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
#[serde(rename_all = "lowercase")]
pub enum HookFormat {
    /// An object with `text`, as Slack's incoming webhooks take it, and what is compatible with them.
    Slack,
    /// An object for programs.
    Json,
}

impl HookFormat {
    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        self.into_str()
    }
}

impl Alerts {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let alerts = Self {
            name: section.text("name").unwrap_or_else(|| NAME.to_owned()),
            check_every: section.duration("check_every", CHECK_EVERY),
            gate_closed_for: section.duration("gate_closed_for", GATE_CLOSED_FOR),
            stuck_for: section.duration("stuck_for", STUCK_FOR),
            disk_free_below: section.size("disk_free_below", DISK_FREE_BELOW),
            wal_above: section.size("wal_above", WAL_ABOVE),
            wal_above_for: section.duration("wal_above_for", WAL_ABOVE_FOR),
            hooks: section.named_sections("hooks").into_iter().map(read_hook).collect(),
        };
        super::check_name(&section, &alerts.name);
        if alerts.check_every.is_zero() {
            section.fault("check_every", "is longer than 0s");
        }
        if alerts.hooks.len() > MOST_HOOKS {
            section.fault("hooks", format!("are {MOST_HOOKS} at most"));
        }
        section.finish();
        alerts
    }
}

fn read_hook((name, mut section): (String, Section<'_>)) -> (String, Hook) {
    super::check_name(&section, &name);
    let is_given = section.has("url");
    let url = section.text("url").unwrap_or_default();
    if !is_given {
        section.fault("url", "is missing");
    } else if !url.is_empty() && !is_url(&url) {
        section.fault("url", "is a URL like \"https://hooks.example.com/services/…\", without a user and a fragment");
    }
    let format = section.word("format", "\"slack\" and \"json\"").unwrap_or(HookFormat::Json);
    section.finish();
    (name.clone(), Hook { name, url: Secret::new(url), format })
}

/// Plain HTTP is allowed to anywhere: receivers inside a cluster often have no certificate, and nothing private is sent.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or_default();
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_graphic() && !"#\\\"<>".contains(c);
    !host.is_empty()
        && !host.starts_with(':')
        && !host.contains('@')
        && text.len() <= LONGEST_URL
        && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_urls_over_http() {
        for url in
            ["https://hooks.slack.com/services/T0/B0/x", "http://alerts.monitoring.svc:8080/?a=b", "http://[::1]"]
        {
            assert!(is_url(url), "{url}");
        }
        let long = format!("https://h/{}", "x".repeat(LONGEST_URL));
        for url in ["", "hooks.example", "ftp://h/", "https://", "https:///x", "https://a:b@h/", "https://h/#x", &long]
        {
            assert!(!is_url(url), "{url}");
        }
    }
}
