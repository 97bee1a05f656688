//! The effective configuration as TOML, secrets redacted: what `dripfeed config` prints.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Serialize;
use toml::{Table, Value};

use super::{BackupTo, Config, Hook, Objects, Oidc, Secret, units::show_duration};
use crate::{
    model::{Concurrency, Dependency, Workflow},
    store::Durability,
};

/// What is kept back of the disk where nothing else is configured.
const RESERVE: &str = "a twentieth of the disk, 1GiB at most";

/// Every setting that is in force, with `***` for what is secret.
pub fn show(config: &Config) -> String {
    let mut root = Table::new();
    let dispatch = &config.dispatch;
    let workers = &config.workers;
    let sections = [
        (
            "server",
            vec![
                ("listen", Value::from(config.server.listen.to_string())),
                ("ops_listen", Value::from(config.server.ops_listen.map_or_else(String::new, |it| it.to_string()))),
                ("tls_cert", path(config.server.tls.as_ref().map(|tls| &tls.cert))),
                ("tls_key", path(config.server.tls.as_ref().map(|tls| &tls.key))),
                ("trusted_proxies", texts(&config.server.trusted_proxies)),
            ],
        ),
        (
            "storage",
            vec![
                ("data_dir", Value::from(config.storage.data_dir.display().to_string())),
                ("reserve", config.storage.reserve.map_or_else(|| Value::from(RESERVE), bytes)),
            ],
        ),
        (
            "database",
            vec![
                ("synchronous", Value::from(durability(config.database.synchronous))),
                ("busy_timeout", Value::from(show_duration(config.database.busy_timeout))),
                ("wal_limit", bytes(config.database.wal_limit)),
            ],
        ),
        (
            "encryption",
            vec![
                ("key_file", Value::from(config.encryption.key_file.display().to_string())),
                ("allow_readable_key_file", Value::from(config.encryption.allow_readable_key_file)),
            ],
        ),
        (
            "access",
            vec![
                ("operator_token", secret(config.access.operator_token.as_ref())),
                ("dispatch_token", secret(config.access.dispatch_token.as_ref())),
                ("metrics_token", secret(config.access.metrics_token.as_ref())),
                ("session_ttl", Value::from(show_duration(config.access.session_ttl))),
            ],
        ),
        (
            "limits",
            vec![
                ("requests_per_minute", Value::from(config.limits.requests_per_minute)),
                ("connections", Value::from(config.limits.connections as i64)),
                ("connections_per_address", Value::from(config.limits.connections_per_address as i64)),
            ],
        ),
        ("log", vec![("filter", Value::from(config.log.filter.clone()))]),
        (
            "traces",
            vec![
                ("endpoint", Value::from(config.traces.endpoint.clone().unwrap_or_default())),
                ("sample", Value::from(config.traces.sample)),
                ("service_name", Value::from(config.traces.service_name.clone())),
                ("headers", masked(&config.traces.headers)),
            ],
        ),
        (
            "dispatch",
            vec![
                ("rows_per_client_per_run", Value::from(dispatch.rows_per_client_per_run)),
                ("every", Value::from(dispatch.every.map_or_else(|| "off".to_owned(), show_duration))),
                ("expect_every", Value::from(show_duration(dispatch.expect_every))),
                ("take_over", Value::from(dispatch.take_over)),
                ("min_interval", Value::from(show_duration(dispatch.min_interval))),
            ],
        ),
        (
            "workers",
            vec![
                ("under_way", Value::from(workers.under_way as i64)),
                ("under_way_bytes", Value::from(workers.under_way_bytes as i64)),
                ("claim_ttl", Value::from(show_duration(workers.claim_ttl))),
                ("auto_rescue", Value::from(workers.auto_rescue)),
                ("drain", Value::from(show_duration(workers.drain))),
            ],
        ),
        ("alerts", alerts(config)),
        (
            "backup",
            vec![
                ("every", Value::from(config.backup.every.map_or_else(|| "never".to_owned(), show_duration))),
                ("to", Value::from(backup_to(config.backup.to.as_ref()))),
                ("keep", Value::from(show_duration(config.backup.keep))),
                ("replica_keep", Value::from(config.backup.replica_keep.map_or_else(String::new, show_duration))),
            ],
        ),
        (
            "retention",
            vec![
                (
                    "finished_batches",
                    Value::from(config.retention.finished_batches.map_or_else(|| "never".to_owned(), show_duration)),
                ),
                ("audit", Value::from(show_duration(config.retention.audit))),
            ],
        ),
        (
            "uploads",
            vec![
                ("at_once", Value::from(config.uploads.at_once as i64)),
                ("longest", Value::from(show_duration(config.uploads.longest))),
            ],
        ),
        (
            "quotas",
            vec![
                ("pending_rows", bytes(config.quotas.amounts.pending_rows)),
                ("stored_bytes", bytes(config.quotas.amounts.stored_bytes)),
                ("batches", bytes(config.quotas.amounts.batches)),
                ("uploads_at_once", Value::from(i64::from(config.quotas.uploads_at_once))),
            ],
        ),
    ];
    for (name, settings) in sections {
        root.insert(name.to_owned(), table(settings));
    }
    if let (Some(oidc), Some(access)) = (&config.access.oidc, root.get_mut("access").and_then(Value::as_table_mut)) {
        access.insert("oidc".to_owned(), provider(oidc));
    }
    if let Objects::Minio(minio) = &config.objects {
        root.insert(
            "objects".to_owned(),
            table(vec![
                ("kind", Value::from("minio")),
                ("endpoint", Value::from(minio.endpoint.clone())),
                ("bucket", Value::from(minio.bucket.clone())),
                ("access_key", Value::from(Secret::MASK)),
                ("secret_key", Value::from(Secret::MASK)),
            ]),
        );
    }
    let dependencies = config.dependencies.iter().map(|(name, it)| (name.clone(), dependency(it)));
    root.insert("dependencies".to_owned(), Value::Table(dependencies.collect()));
    let workflows = config.workflows.iter().map(|(name, it)| (name.clone(), workflow(it)));
    root.insert("workflows".to_owned(), Value::Table(workflows.collect()));
    root.to_string()
}

fn bytes(bytes: u64) -> Value {
    Value::from(i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn table(settings: Vec<(&str, Value)>) -> Value {
    Value::Table(settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn texts(list: &[impl ToString]) -> Value {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().into()
}

fn provider(it: &Oidc) -> Value {
    let roles = it.roles.iter().map(|(role, groups)| (role.as_str(), texts(groups)));
    table(vec![
        ("issuer", Value::from(it.issuer.clone())),
        ("client_id", Value::from(it.client_id.clone())),
        ("client_secret", Value::from(Secret::MASK)),
        ("groups_claim", Value::from(it.groups_claim.clone())),
        ("roles", table(roles.collect())),
    ])
}

fn path(given: Option<&PathBuf>) -> Value {
    Value::from(given.map_or_else(String::new, |path| path.display().to_string()))
}

fn secret(given: Option<&Secret>) -> Value {
    Value::from(if given.is_some() { Secret::MASK } else { "" })
}

fn backup_to(to: Option<&BackupTo>) -> String {
    match to {
        None => String::new(),
        Some(BackupTo::Bucket) => "bucket".to_owned(),
        Some(BackupTo::Folder(folder)) => folder.display().to_string(),
    }
}

fn alerts(config: &Config) -> Vec<(&'static str, Value)> {
    let alerts = &config.alerts;
    let hook =
        |hook: &Hook| table(vec![("url", Value::from(Secret::MASK)), ("format", Value::from(hook.format.as_str()))]);
    let hooks = alerts.hooks.iter().map(|(name, it)| (name.clone(), hook(it)));
    vec![
        ("name", Value::from(alerts.name.clone())),
        ("check_every", Value::from(show_duration(alerts.check_every))),
        ("gate_closed_for", Value::from(show_duration(alerts.gate_closed_for))),
        ("stuck_for", Value::from(show_duration(alerts.stuck_for))),
        ("disk_free_below", Value::from(alerts.disk_free_below as i64)),
        ("wal_above", Value::from(alerts.wal_above as i64)),
        ("wal_above_for", Value::from(show_duration(alerts.wal_above_for))),
        ("hooks", Value::Table(hooks.collect())),
    ]
}

fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Full => "full",
        Durability::Normal => "normal",
    }
}

fn dependency(it: &Dependency) -> Value {
    table(vec![
        ("base_url", Value::from(it.base_url.clone())),
        ("rate_per_second", Value::from(it.rate_per_second)),
        ("burst", Value::from(it.burst)),
        ("concurrency", concurrency(it.concurrency)),
        ("max_concurrency", Value::from(it.max_concurrency)),
        ("adapt", Value::from(it.adapt)),
        ("timeout", Value::from(show_duration(it.timeout))),
        ("gate_after", Value::from(it.gate_after)),
        ("max_retry_after", Value::from(show_duration(it.max_retry_after))),
        ("max_idle", Value::from(show_duration(it.max_idle))),
        ("headers", masked(&it.headers)),
    ])
}

fn concurrency(it: Concurrency) -> Value {
    match it {
        Concurrency::Auto => Value::from("auto"),
        Concurrency::Fixed(limit) => Value::from(limit),
    }
}

fn workflow(it: &Workflow) -> Value {
    let steps = it.steps.iter().map(|step| {
        let mut shown = settings_of(step);
        shown.insert("headers".to_owned(), masked(&step.headers));
        Value::Table(shown)
    });
    table(vec![
        ("upload_path", Value::from(it.upload_path.clone())),
        ("max_rows", Value::from(it.max_rows)),
        ("max_bytes", Value::from(it.max_bytes as i64)),
        ("max_attempts", Value::from(it.max_attempts)),
        ("on_invalid_row", word(it.on_invalid_row)),
        ("extra_columns", word(it.extra_columns)),
        ("duplicate_window", Value::from(show_duration(it.duplicate_window))),
        ("give_up_after", Value::from(show_duration(it.give_up_after))),
        ("pause_after_failures", Value::from(i64::from(it.failure_limit.failures))),
        ("pause_failure_share", Value::from(it.failure_limit.share)),
        ("repeat_window", Value::from(show_duration(it.repeat_window))),
        ("columns", it.columns.iter().map(|column| Value::Table(settings_of(column))).collect::<Vec<_>>().into()),
        ("steps", steps.collect::<Vec<_>>().into()),
    ])
}

/// The settings of a column or a step under the names that the configuration has for them. TOML has no word for what is
/// not given, so that it is left out.
fn settings_of(it: &impl Serialize) -> Table {
    Table::try_from(it).unwrap_or_default()
}

fn word(it: impl Serialize) -> Value {
    Value::try_from(it).unwrap_or_else(|_| Value::from(""))
}

/// Headers hold credentials.
fn masked<V>(headers: &BTreeMap<String, V>) -> Value {
    Value::Table(headers.keys().map(|name| (name.clone(), Value::from(Secret::MASK))).collect())
}
