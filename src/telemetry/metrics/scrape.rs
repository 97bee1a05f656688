//! What is so at the moment of a scrape: looked up for it, in a registry that is made for it, so that what has gone is
//! not shown on. The database is read once, for what [`glance::look`] costs.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use prometheus::{Registry, Result, TextEncoder};

use super::{REMOVED, families::Families, process, seconds};
use crate::{
    appliance::Appliance,
    downstream::DependencyStatus,
    model::{AlertKind, RowStatus, Timestamp},
    room,
    store::{
        glance::{self, Glance, Unfinished},
        sizes,
    },
};

/// Everything that is known, in Prometheus's text format. Blocks.
pub fn text(appliance: &Appliance) -> Result<String> {
    let registry = Registry::new();
    let families = Families(&registry);
    of_build(&families, appliance)?;
    of_dependencies(&families, appliance)?;
    of_storage(&families, appliance)?;
    process::note(&families, appliance.metrics.started_at)?;
    let now = appliance.clock.now();
    let glance = appliance.store.read(|connection| glance::look(connection, now)).inspect_err(|error| {
        tracing::error!(event = "metrics.not_read", %error, "the database cannot be read for its metrics");
    });
    // Without the database the rest is worth the more.
    families.gauge("dripfeed_store_readable", "Whether the database could be read.", f64::from(glance.is_ok()))?;
    if let Ok(glance) = glance {
        of_dispatch(&families, appliance, &glance)?;
        of_batches(&families, appliance, glance.unfinished, now)?;
    }
    let mut all = appliance.metrics.registry.gather();
    all.extend(registry.gather());
    TextEncoder::new().encode_to_string(&all)
}

fn of_build(families: &Families<'_>, appliance: &Appliance) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    families.gauges("dripfeed_build_info", "Always 1: the version is the label.", ["version"], [([version], 1.0)])?;
    let most = appliance.config.workers.under_way as f64;
    families.gauge("dripfeed_rows_under_way_limit", "Rows that may be under way at once.", most)?;
    let late = appliance.late_settles.load(Ordering::Relaxed) as f64;
    families.total(
        "dripfeed_late_settles_total",
        "Outcomes that came after their claim had been taken over, and changed nothing.",
        late,
    )
}

fn of_dependencies(families: &Families<'_>, appliance: &Appliance) -> Result<()> {
    let status = appliance.downstream.status();
    let each = |name, help, value: fn(&DependencyStatus) -> f64| {
        families.gauges(name, help, ["dependency"], status.iter().map(|it| ([it.name.as_str()], value(it))))
    };
    each("dripfeed_gate_open", "1 where calls pass freely; 0 while the gate is closed or probed.", |it| {
        f64::from(it.gate.open)
    })?;
    each("dripfeed_call_rate_limit", "Calls a second that may leave, whoever set it.", |it| it.rate_per_second)?;
    each("dripfeed_call_rate_adapted", "Calls a second that may leave now: fewer where answers ask for it.", |it| {
        it.adapted_rate_per_second
    })?;
    each("dripfeed_call_concurrency_limit", "Calls that may be under way at once.", |it| it.concurrency.into())?;
    each("dripfeed_calls_in_flight", "Calls under way.", |it| it.in_flight.into())?;
    let waiting = appliance.downstream.waiting();
    let waiting = waiting.iter().map(|(name, waiting)| ([name.as_str()], *waiting as f64));
    families.gauges("dripfeed_permits_waiting", "Calls that wait for a permit now.", ["dependency"], waiting)
}

fn of_storage(families: &Families<'_>, appliance: &Appliance) -> Result<()> {
    let config = &appliance.config;
    let sizes = sizes::of(&config.storage.data_dir);
    let reserve = sizes.disk_total_bytes.map(|bytes| room::reserve(config.storage.reserve, bytes));
    for (name, help, bytes) in [
        ("dripfeed_database_size_bytes", "The database's file.", sizes.database_bytes),
        ("dripfeed_wal_size_bytes", "The database's write-ahead log.", sizes.wal_bytes),
        ("dripfeed_wal_limit_bytes", "What the write-ahead log is kept below.", Some(config.database.wal_limit)),
        ("dripfeed_disk_reserve_bytes", "What uploads and extraction leave free on the disk.", reserve),
        ("dripfeed_disk_free_bytes", "Left on the disk that the database lies on.", sizes.disk_free_bytes),
        ("dripfeed_disk_size_bytes", "The disk that the database lies on.", sizes.disk_total_bytes),
    ] {
        families.known(name, help, bytes.map(|bytes| bytes as f64))?;
    }
    Ok(())
}

fn of_dispatch(families: &Families<'_>, appliance: &Appliance, glance: &Glance) -> Result<()> {
    let settings = &appliance.config.dispatch;
    let every = settings.every.unwrap_or(settings.expect_every).as_secs_f64();
    let (last_run, granted) = glance.last_run.map_or((0.0, 0), |(at, rows)| (seconds(at), rows));
    for (name, help, value) in [
        ("dripfeed_dispatch_paused", "1 while dispatch is paused.", f64::from(glance.is_paused)),
        (
            "dripfeed_dispatch_calls_missing",
            "1 while at least three of the calls did not come that should start dispatch runs.",
            f64::from(appliance.dispatch_watch.missing_since().is_some()),
        ),
        (
            "dripfeed_dispatch_taken_over",
            "1 while the built-in clock makes the runs in place of calls that are missing.",
            f64::from(appliance.dispatch_watch.is_taken_over()),
        ),
        ("dripfeed_dispatch_expected_interval_seconds", "How often a dispatch run should come.", every),
        ("dripfeed_dispatch_last_run_timestamp_seconds", "When the last run granted rows; 0: never.", last_run),
        ("dripfeed_dispatch_last_run_rows", "Rows that the last run granted.", granted as f64),
        (
            "dripfeed_dispatch_remaining_rows",
            "Rows of the last run's that are not claimed yet.",
            glance.granted_left as f64,
        ),
        (
            "dripfeed_dispatch_last_run_clients",
            "Clients that the last run granted rows.",
            glance.granted_clients as f64,
        ),
        ("dripfeed_webhook_pending", "Announcements that are still to be delivered.", glance.announcements as f64),
        ("dripfeed_deletions_pending", "Deleted batches that are still being cleared away.", glance.deletions as f64),
        (
            "dripfeed_last_backup_timestamp_seconds",
            "The moment whose state the last whole backup holds; 0: there is none.",
            glance.last_backup.map_or(0.0, seconds),
        ),
        (
            "dripfeed_backup_expected_interval_seconds",
            "How often the server takes a backup by itself; 0: it does not.",
            appliance.config.backup.every.map_or(0.0, |every| every.as_secs_f64()),
        ),
    ] {
        families.gauge(name, help, value)?;
    }
    let of_kind = |kind| glance.firing.iter().find(|(found, _)| *found == kind).map_or(0, |(_, alerts)| *alerts);
    let firing = AlertKind::ALL.iter().map(|&kind| ([kind.as_str()], of_kind(kind) as f64));
    families.gauges(
        "dripfeed_alerts_firing",
        "Alerts that the server itself raises and that are not over.",
        ["kind"],
        firing,
    )?;
    let stuck = [(["row"], glance.stuck_rows as f64), (["batch"], glance.stuck_batches as f64)];
    families.gauges("dripfeed_stuck_claims", "Claims that have expired and are not freed.", ["kind"], stuck)
}

fn of_batches(families: &Families<'_>, appliance: &Appliance, found: Vec<Unfinished>, now: Timestamp) -> Result<()> {
    let age = |oldest: fn(&Unfinished) -> Option<Timestamp>| {
        found.iter().filter_map(oldest).min().map_or(0.0, |oldest| now.since(oldest).as_secs_f64())
    };
    let ages = [(["extraction"], age(|it| it.oldest_unextracted)), (["dispatch"], age(|it| it.oldest_waiting))];
    families.gauges(
        "dripfeed_oldest_pending_age_seconds",
        "Age of the oldest batch that waits to be extracted, or has rows to be claimed and is not paused; 0: none.",
        ["stage"],
        ages,
    )?;
    // Every workflow of the configuration is there, with zeros where nothing is under way.
    let known = appliance.config.workflows.keys().map(|name| (name.clone(), Unfinished::default()));
    let mut by_workflow: BTreeMap<String, Unfinished> = known.collect();
    for of_workflow in found {
        let is_known = by_workflow.contains_key(&of_workflow.workflow);
        let name = if is_known { &of_workflow.workflow } else { REMOVED };
        by_workflow.entry(name.to_owned()).or_default().add(&of_workflow);
    }
    let rows = by_workflow.iter().flat_map(|(name, it)| {
        let status = RowStatus::ALL.iter().zip(it.rows);
        status.map(|(status, rows)| ([name.as_str(), status.as_str()], rows as f64))
    });
    families.gauges(
        "dripfeed_rows",
        "Rows of unfinished batches, by workflow and status.",
        ["workflow", "status"],
        rows,
    )?;
    let batches = by_workflow.iter().flat_map(|(name, it)| {
        let status = ["pending", "processing", "queued"].into_iter().zip(it.batches);
        status.map(|(status, batches)| ([name.as_str(), status], batches as f64))
    });
    families.gauges(
        "dripfeed_batches",
        "Unfinished batches, by workflow and status: pending ones wait to be extracted.",
        ["workflow", "status"],
        batches,
    )?;
    let each = |name, help, value: fn(&Unfinished) -> u64| {
        let values = by_workflow.iter().map(|(name, it)| ([name.as_str()], value(it) as f64));
        families.gauges(name, help, ["workflow"], values)
    };
    each("dripfeed_batches_paused", "Unfinished batches that are paused, or whose client is.", |it| it.paused)?;
    each("dripfeed_rows_unextracted", "Rows that are not in the work table yet.", |it| it.unextracted)
}
