//! What is wrong now. Each kind is looked at by itself, and costs the same whatever the batches hold.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    appliance::Appliance,
    config::{show_duration, tell_size},
    dispatch::clock::Calls,
    model::{AlertKind, Timestamp, outline},
    store::{
        Result,
        alerts::Alert,
        backups::{self, LastBackup},
        sizes::{self, Sizes},
        troubles::{self, Expired},
        workflows,
    },
    tls::Validity,
};

/// Batches in the same trouble that are looked at, the oldest; behind so many nobody counts.
const MOST_BATCHES: u32 = 10_000;
/// A batch that could not be extracted is followed for so long: there is nothing to mend that would end it.
const FAILED_FOLLOWED: Duration = Duration::from_secs(24 * 60 * 60);
/// A disk is low until this share more than `disk_free_below` is free, so that it is not told with every file that
/// comes and goes.
const ENOUGH_SHARE: u64 = 10;
/// A backup is overdue when it is late by half of its period, and by no more than this.
const LATEST_BACKUP: Duration = Duration::from_secs(6 * 60 * 60);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The batch or the dependency that it is about; empty where it is about neither.
    pub subject: String,
    /// Since when; `None`: since it is seen.
    pub since: Option<Timestamp>,
    /// What is wrong, in ids, names and counts.
    pub summary: String,
}

/// All that is wrong of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub kind: AlertKind,
    /// It fires when it has lasted for so long.
    pub wait: Duration,
    pub found: Vec<Found>,
}

impl Check {
    fn of(kind: AlertKind, found: impl IntoIterator<Item = Found>) -> Self {
        Self { kind, wait: Duration::ZERO, found: found.into_iter().collect() }
    }

    fn lasting(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }
}

/// Looks at everything. A kind that nothing can be said of now is left out.
pub(super) fn look(appliance: &Appliance, now: Timestamp, standing: &[Alert]) -> Result<Vec<Check>> {
    let sizes = sizes::of(&appliance.config.storage.data_dir);
    let is_low = standing.iter().any(|alert| alert.kind == AlertKind::DiskLow);
    let mut checks = of_database(appliance, now)?;
    checks.push(gates(appliance));
    checks.extend(runs(appliance));
    checks.extend(disk(appliance, sizes, is_low));
    checks.extend(wal(appliance, sizes));
    Ok(checks)
}

fn of_database(appliance: &Appliance, now: Timestamp) -> Result<Vec<Check>> {
    let stuck_by = now.before(appliance.config.alerts.stuck_for);
    appliance.store.read(|connection| {
        let failed = troubles::failed_batches(connection, now.before(FAILED_FOLLOWED), MOST_BATCHES)?;
        let failed = failed.into_iter().map(|it| Found {
            subject: it.batch.to_string(),
            since: Some(it.at),
            summary: format!("{} could not be extracted ({})", it.batch, it.code),
        });
        let paused = troubles::paused_batches(connection, MOST_BATCHES)?.into_iter().map(|it| Found {
            subject: it.batch.to_string(),
            since: Some(it.at),
            summary: format!("{} paused itself: {}", it.batch, it.reason),
        });
        let is_configured = |name: &str| appliance.config.dependencies.contains_key(name);
        let missing = workflows::missing(connection, is_configured, MOST_BATCHES)?.into_iter();
        let missing = missing.map(|it| (it.batch, outline::why_missing(&it.workflow, &it.dependency)));
        // What was missing at the start, and what can be missing besides: a key under which a workflow is sealed.
        let mut missing: BTreeMap<_, _> = missing.collect();
        for (batch, why) in workflows::paused(connection, MOST_BATCHES)? {
            missing.entry(batch).or_insert(why);
        }
        let missing = missing.into_iter().map(|(batch, why)| Found {
            subject: batch.to_string(),
            since: None,
            summary: format!("{batch} stands still: {why}"),
        });
        let undecryptable = troubles::undecryptable(connection, MOST_BATCHES)?.into_iter().map(|(batch, rows)| Found {
            subject: batch.to_string(),
            since: None,
            summary: format!("{batch} has {} that no key opens", counted(rows, "row")),
        });
        Ok(vec![
            Check::of(AlertKind::ExtractionFailed, failed),
            Check::of(AlertKind::BatchPaused, paused),
            Check::of(AlertKind::DependencyMissing, missing),
            Check::of(AlertKind::RowsUndecryptable, undecryptable),
            stuck(troubles::expired(connection, stuck_by)?),
            backup(appliance.config.backup.every, backups::last(connection)?, now),
        ])
    })
}

fn stuck(expired: Expired) -> Check {
    let found = expired.first_at.map(|since| Found {
        subject: String::new(),
        since: Some(since),
        summary: format!(
            "{} and {} are stuck: their claims expired, and nobody frees them",
            counted(expired.rows, "row"),
            counted(expired.batches, "batch")
        ),
    });
    Check::of(AlertKind::RowsStuck, found)
}

/// Where backups are scheduled `every` so often, and the last whole one is this.
fn backup(every: Option<Duration>, last: Option<LastBackup>, now: Timestamp) -> Check {
    let Some(every) = every else { return Check::of(AlertKind::BackupOverdue, None) };
    let is_due = last.as_ref().is_none_or(|last| now.since(last.at) > every);
    let due_at = last.as_ref().map(|last| last.at.after(every));
    let last = last.map_or_else(|| "there is none".to_owned(), |last| format!("the last whole one is of {}", last.at));
    let found = is_due.then(|| Found {
        subject: String::new(),
        since: due_at,
        summary: format!("a backup is due every {}, and {last}", show_duration(every)),
    });
    Check::of(AlertKind::BackupOverdue, found).lasting((every / 2).min(LATEST_BACKUP))
}

fn gates(appliance: &Appliance) -> Check {
    let wait = appliance.config.alerts.gate_closed_for;
    let closed = appliance.downstream.status().into_iter().filter(|dependency| !dependency.gate.open);
    let found = closed.map(|dependency| {
        let because = dependency.gate.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        Found {
            summary: format!(
                "the gate of {} is closed for more than {}{because}",
                dependency.name,
                show_duration(wait)
            ),
            subject: dependency.name,
            since: None,
        }
    });
    Check::of(AlertKind::GateClosed, found).lasting(wait)
}

fn runs(appliance: &Appliance) -> Option<Check> {
    let settings = &appliance.config.dispatch;
    let found = match appliance.dispatch_watch.calls() {
        Calls::Awaited => return None,
        Calls::NotExpected | Calls::Coming => None,
        Calls::Missing { since } => {
            let every = show_duration(settings.expect_every);
            let who = match settings.take_over {
                true => "the built-in clock makes the runs meanwhile",
                false => "nobody is granted rows",
            };
            let summary = format!("no dispatch call came for three times {every}: {who}");
            Some(Found { subject: String::new(), since: Some(since), summary })
        }
    };
    Some(Check::of(AlertKind::RunsMissing, found))
}

fn disk(appliance: &Appliance, sizes: Sizes, is_low: bool) -> Option<Check> {
    let (free, below) = (sizes.disk_free_bytes?, appliance.config.alerts.disk_free_below);
    let enough = if is_low { below.saturating_add(below / ENOUGH_SHARE) } else { below };
    let found = (free < enough).then(|| Found {
        subject: String::new(),
        since: None,
        summary: format!("{} are free on the disk of the data folder, less than {}", tell_size(free), tell_size(below)),
    });
    Some(Check::of(AlertKind::DiskLow, found))
}

fn wal(appliance: &Appliance, sizes: Sizes) -> Option<Check> {
    let (alerts, size) = (&appliance.config.alerts, sizes.wal_bytes?);
    let (above, lasting) = (tell_size(alerts.wal_above), show_duration(alerts.wal_above_for));
    let found = (size > alerts.wal_above).then(|| Found {
        subject: String::new(),
        since: None,
        summary: format!("the WAL has {}, and more than {above} for {lasting}", tell_size(size)),
    });
    Some(Check::of(AlertKind::WalLarge, found).lasting(alerts.wal_above_for))
}

/// Of the certificate that is shown for so long.
pub(super) fn certificate(validity: Option<Validity>, now: Timestamp) -> Check {
    let found = validity.filter(|validity| validity.ends_soon(now)).map(|validity| Found {
        subject: String::new(),
        since: None,
        summary: match validity.fault(now) {
            Some(fault) => format!("the certificate of server.tls_cert {fault}: callers refuse it"),
            None => format!("the certificate of server.tls_cert expires at {}", validity.ends),
        },
    });
    Check::of(AlertKind::CertificateEnds, found)
}

fn counted(number: u64, noun: &str) -> String {
    match (number, noun) {
        (1, _) => format!("1 {noun}"),
        (_, "batch") => format!("{number} batches"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_786_000_000_000);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn a_backup_is_overdue_only_where_one_is_scheduled_and_late() {
        let last = |age| Some(LastBackup { at: NOW.before(age), place: "/backups/1".into() });
        assert!(backup(None, None, NOW).found.is_empty());
        assert!(backup(Some(DAY), last(DAY), NOW).found.is_empty());
        let late = backup(Some(DAY), last(DAY * 2), NOW);
        assert_eq!((late.found[0].since, late.wait), (Some(NOW.before(DAY)), LATEST_BACKUP));
        assert!(!late.found[0].summary.contains("/backups"), "{late:?}");
        let none = backup(Some(Duration::from_secs(60)), None, NOW);
        assert_eq!((none.found[0].since, none.wait), (None, Duration::from_secs(30)));
    }

    #[test]
    fn a_certificate_is_told_of_while_there_is_time_to_renew_it() {
        let until = |ends| Some(Validity { begins: NOW.before(DAY * 60), ends });
        assert!(
            certificate(None, NOW).found.is_empty() && certificate(until(NOW.after(DAY * 15)), NOW).found.is_empty()
        );
        let said = |ends| certificate(until(ends), NOW).found[0].summary.clone();
        assert!(said(NOW.after(DAY * 13)).contains("expires at"), "{}", said(NOW.after(DAY * 13)));
        assert!(said(NOW.before(DAY)).ends_with("callers refuse it"), "{}", said(NOW.before(DAY)));
    }

    #[test]
    fn claims_that_expired_are_counted() {
        assert!(stuck(Expired { rows: 0, batches: 0, first_at: None }).found.is_empty());
        let found = stuck(Expired { rows: 1, batches: 2, first_at: Some(NOW) });
        assert!(found.found[0].summary.starts_with("1 row and 2 batches are stuck"), "{found:?}");
    }
}
