//! `GET /ops/v1/overview`: how everything is, on one page. Every list on it is bounded.

use std::sync::atomic::Ordering;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    answer::{Answer, blocking},
    list::long_json,
    request::Request,
};
use crate::{
    downstream::DependencyStatus,
    model::Timestamp,
    operations::views::{
        alert::AlertView, batch::BatchView, client::ClientView, deletion::DeletionView, stuck::StuckView,
    },
    store::{
        alerts, all_batches,
        backups::{self, LastBackup},
        clients, deletions,
        grants::{self, DispatchPause, Run},
        pages::Most,
        sizes::{self, Sizes},
    },
};

/// Clients that are shown, by name; `GET /ops/v1/clients` shows all.
const CLIENTS: u32 = 200;
/// Batches that are shown, those in trouble first; `GET /ops/v1/batches` shows all.
const BATCHES: u32 = 50;
/// Alerts that are shown.
const ALERTS: u32 = 100;
/// Deletions under way that are shown.
const DELETIONS: u32 = 100;

/// How everything is.
#[derive(Serialize, JsonSchema)]
pub(super) struct Overview {
    /// The time of all of it.
    at: Timestamp,
    /// What is wrong, the newest first; each is told to the hooks once.
    alerts: Vec<AlertView>,
    dispatch: DispatchView,
    dependencies: Vec<DependencyStatus>,
    /// By name.
    clients: Vec<ClientView>,
    /// Those in trouble first.
    batches: Vec<BatchView>,
    stuck: StuckCounts,
    /// What is deleted already, and cleared away piece by piece.
    deletions: Vec<DeletionView>,
    storage: Sizes,
    /// The ids of the encryption keys; the first one seals.
    keys: Vec<String>,
    /// The last backup that is whole.
    last_backup: Option<LastBackup>,
    /// Outcomes that came after their claim had been taken over, and changed nothing.
    late_settles: u64,
}

/// How dispatch is.
#[derive(Serialize, JsonSchema)]
pub(super) struct DispatchView {
    /// Who stopped it, since when, and why.
    paused: Option<DispatchPause>,
    last_run: Option<Run>,
    /// Since when the calls that ask for runs are missing; `null` where they come, or none are expected.
    missing_since: Option<Timestamp>,
    /// Whether the built-in clock makes the runs meanwhile.
    taken_over: bool,
}

/// Claims that have expired, as far as they are listed.
#[derive(Serialize, JsonSchema)]
pub(super) struct StuckCounts {
    rows: usize,
    batches: usize,
}

pub(super) async fn overview(request: Request) -> Answer {
    let context = request.context.clone();
    blocking(move || request.caller()?.operator()).await?;
    let appliance = context.appliance.clone();
    long_json(&context, None, move || {
        let now = appliance.clock.now();
        let (alerts, dispatch, clients, batches, deletions, last_backup) = appliance.store.read(|connection| {
            let dispatch = DispatchView {
                paused: grants::pause_of(connection)?,
                last_run: grants::runs(connection, i64::MAX, Most::entries(1))?.entries.pop(),
                missing_since: appliance.dispatch_watch.missing_since(),
                taken_over: appliance.dispatch_watch.is_taken_over(),
            };
            let of = |client: &clients::Client| ClientView::read(connection, client, &appliance.config);
            let clients = clients::page(connection, "", Most::entries(CLIENTS))?;
            let clients = clients.entries.iter().map(of).collect::<Result<Vec<_>, _>>()?;
            let deletions = deletions::under_way(connection, DELETIONS)?;
            let batches = all_batches::trouble_first(connection, BATCHES)?;
            let alerts = alerts::firing(connection, ALERTS)?;
            Ok((alerts, dispatch, clients, batches, deletions, backups::last(connection)?))
        })?;
        let stuck = StuckView::read(&appliance, appliance.clock.now())?;
        let view = BatchView::each(&appliance, true)?;
        let batches = batches.into_iter().map(view).collect::<Result<_, _>>()?;
        Ok(Overview {
            at: now,
            alerts: alerts.into_iter().map(AlertView::from).collect(),
            dispatch,
            dependencies: appliance.downstream.status(),
            clients,
            batches,
            stuck: StuckCounts { rows: stuck.rows.len(), batches: stuck.batches.len() },
            deletions: deletions.into_iter().map(DeletionView::from).collect(),
            storage: sizes::of(&appliance.config.storage.data_dir),
            keys: appliance.ring().ids().map(str::to_owned).collect(),
            last_backup,
            late_settles: appliance.late_settles.load(Ordering::Relaxed),
        })
    })
    .await
}
