//! The database, and what it says of keys, dispatch, claims, announcements and backups.

use std::time::Duration;

use super::{finding::Finding, local};
use crate::{
    config::Config,
    crypto::KeyRing,
    dispatch::clock::MISSING_RUNS,
    keys::{self, KeysError},
    model::{AskedBy, Timestamp, outline},
    store::{self, StoreError, backups::database_files, inspection::Inspection, integrity::Depth},
};

/// Announcements that were given up are told for so long.
const GIVEN_UP_TOLD: Duration = Duration::from_secs(24 * 3600);
/// Where none are scheduled, a backup that is older than this is too old for most people.
const BACKUP_OLD: Duration = Duration::from_secs(7 * 24 * 3600);

/// Alerts that are counted.
const ALERTS: u32 = 1_000;

/// Batches that are looked at whose workflow cannot be worked by; behind so many nobody counts.
const BATCHES: u32 = 10_000;

const DAMAGED: &str = "stop dripfeed, keep a copy of the data folder, and `dripfeed restore` a backup into a new one";

pub(super) fn examine(config: &Config, ring: Option<&KeyRing>, depth: Depth, now: Timestamp) -> Vec<Finding> {
    let inspection = match Inspection::open(&config.storage.data_dir) {
        Ok(Some(inspection)) => inspection,
        Ok(None) => return vec![missing(config)],
        Err(error) => return vec![fault(&error)],
    };
    let sound = soundness(&inspection, depth);
    let mut found = vec![sound.unwrap_or_else(|error| fault(&error))];
    // What a damaged or a newer database says of itself is worth nothing.
    if found.iter().all(|finding| finding.advice.is_none()) {
        let more = tell(&inspection, config, ring, now);
        found.extend(more.unwrap_or_else(|error| vec![fault(&error)]));
    }
    found
}

fn missing(config: &Config) -> Finding {
    let leftover = database_files(&config.storage.data_dir).into_iter().find(|path| path.exists());
    match leftover {
        Some(path) => {
            let says = format!("there is none, but {} is there", path.display());
            Finding::fail("database", says, "put the database file back to where this belongs, or restore a backup")
        }
        None => Finding::warn("database", "there is none yet", "`dripfeed serve` makes it"),
    }
}

fn fault(error: &StoreError) -> Finding {
    let advice = match error {
        StoreError::Busy => "another process holds it: see which dripfeed processes run",
        _ => DAMAGED,
    };
    Finding::fail("database", error.to_string(), advice)
}

fn soundness(inspection: &Inspection, depth: Depth) -> store::Result<Finding> {
    if let Some(first) = inspection.faults(depth)?.into_iter().next() {
        return Ok(Finding::fail("database", format!("damaged: {first}"), DAMAGED));
    }
    let (found, known) = inspection.versions()?;
    if found > known {
        let says = format!("has version {found}, this dripfeed knows versions up to {known}");
        return Ok(Finding::fail("database", says, "use the dripfeed that wrote it, or a newer one"));
    }
    let check = if depth == Depth::Full { "integrity_check" } else { "quick_check" };
    Ok(Finding::ok("database", format!("version {found}, {check} finds nothing")))
}

fn tell(
    inspection: &Inspection,
    config: &Config,
    ring: Option<&KeyRing>,
    now: Timestamp,
) -> store::Result<Vec<Finding>> {
    let mut found = vec![local::wal(store::sizes::of(&config.storage.data_dir), config.database.wal_limit)];
    if let Some(ring) = ring {
        found.push(keys_fit(keys::fit(inspection.proofs()?, ring), ring));
    }
    found.push(dispatch(inspection, config, now)?);
    found.push(workflows(inspection, config)?);
    let stuck = inspection.expired_claims(now)?;
    found.push(match stuck {
        0 => Finding::ok("claims", "none has expired"),
        _ => {
            Finding::warn("claims", format!("{stuck} have expired"), "`dripfeed stuck` lists them, --apply frees them")
        }
    });
    let deliveries = inspection.deliveries(now.before(GIVEN_UP_TOLD))?;
    found.push(if deliveries.failing + deliveries.given_up == 0 {
        Finding::ok("webhooks", "nothing waits for another try")
    } else {
        let says = format!(
            "{} announcements wait for another try, {} were given up in the last 24 h",
            deliveries.failing, deliveries.given_up
        );
        Finding::warn("webhooks", says, "`dripfeed client deliveries NAME` says what the receiver answers")
    });
    found.push(backup(inspection, config, now)?);
    found.push(alerts(inspection)?);
    found.push(audit(inspection)?);
    Ok(found)
}

fn keys_fit(fit: Result<(), KeysError>, ring: &KeyRing) -> Finding {
    match fit {
        Ok(()) => Finding::ok("keys", format!("they open this database; `{}` seals", ring.first_id())),
        Err(error) => Finding::fail("keys", error.to_string(), "without that key what it sealed is lost"),
    }
}

fn dispatch(inspection: &Inspection, config: &Config, now: Timestamp) -> store::Result<Finding> {
    let state = inspection.dispatch()?;
    if let Some(pause) = state.paused {
        let why = pause.reason.map_or_else(String::new, |reason| format!(": {reason}"));
        let says = format!("paused by {} since {}{why}", pause.by, pause.at);
        return Ok(Finding::warn("dispatch", says, "POST /ops/v1/dispatch/resume lets it go on"));
    }
    let every = config.dispatch.every.unwrap_or(config.dispatch.expect_every);
    let advice = match config.dispatch.every {
        Some(_) => "the built-in clock runs in `dripfeed serve`: see that it runs",
        None => "see that the CronJob runs `dispatch`, and what it says; or set dispatch.every",
    };
    Ok(match state.last_run {
        Some((at, AskedBy::TakeOver)) if config.dispatch.every.is_none() && now.since(at) <= every * MISSING_RUNS => {
            let says = format!("last run {at}, made by the built-in clock because calls are missing");
            Finding::warn("dispatch", says, advice)
        }
        Some((at, _)) if now.since(at) <= every * MISSING_RUNS || !state.has_work => {
            Finding::ok("dispatch", format!("last run {at}"))
        }
        None if !state.has_work => Finding::ok("dispatch", "no run yet, and no work"),
        Some((at, _)) => Finding::warn("dispatch", format!("the last run was {at}, and work waits"), advice),
        None => Finding::warn("dispatch", "there was no run yet, and work waits", advice),
    })
}

/// Whether what unfinished batches keep can be worked by.
fn workflows(inspection: &Inspection, config: &Config) -> store::Result<Finding> {
    let missing = inspection.missing(|name| config.dependencies.contains_key(name), BATCHES)?;
    if let Some(first) = missing.first() {
        let why = outline::why_missing(&first.workflow, &first.dependency);
        let says = format!("{} unfinished batches stand still, the first is {}: {why}", missing.len(), first.batch);
        let advice =
            "or `dripfeed batch upgrade ID` moves one to the present version, `dripfeed batch cancel ID` ends it";
        return Ok(Finding::warn("workflows", says, advice));
    }
    let paused = inspection.paused_missing(BATCHES)?;
    Ok(match paused.first() {
        None => Finding::ok("workflows", "what unfinished batches call is configured"),
        Some((first, why)) => {
            let says = format!(
                "{} batches stood still when the server last started, the first is {first}: {why}",
                paused.len()
            );
            Finding::warn("workflows", says, "restart the server: where that was mended since, they go on then")
        }
    })
}

fn backup(inspection: &Inspection, config: &Config, now: Timestamp) -> store::Result<Finding> {
    let (advice, old) = match config.backup.every {
        Some(every) => ("the server takes them: see that it runs, and what its log says in `backup.failed`", every * 2),
        None => {
            ("set backup.every, or let a timer run `dripfeed backup TO`, which takes one beside the server", BACKUP_OLD)
        }
    };
    Ok(match inspection.last_backup()? {
        None => Finding::warn("backup", "there is none", advice),
        Some(last) if now.since(last.at) > old => {
            Finding::warn("backup", format!("the last one is of {}, in {}", last.at, last.place), advice)
        }
        Some(last) => Finding::ok("backup", format!("of {}, in {}", last.at, last.place)),
    })
}

/// The newest of what the server tells of by itself.
fn alerts(inspection: &Inspection) -> store::Result<Finding> {
    let alerts = inspection.alerts(ALERTS)?;
    Ok(match alerts.first() {
        None => Finding::ok("alerts", "none fires"),
        Some(newest) => {
            let says = format!("{} told and not over, the newest: {}", alerts.len(), newest.summary);
            Finding::warn("alerts", says, "`dripfeed alerts list` says what to run")
        }
    })
}

/// Whether somebody took an entry out, put one in, or altered one.
fn audit(inspection: &Inspection) -> store::Result<Finding> {
    let verified = inspection.audit(None)?;
    Ok(match verified.faults.first() {
        None => Finding::ok("audit", format!("its {} entries are as they were noted", verified.entries)),
        Some(first) => {
            let advice = "somebody changed the database by hand: `dripfeed audit verify` tells all; compare with the \
                          log's `audit.noted` and with a backup";
            Finding::fail("audit", format!("it is not as it was noted: {first}"), advice)
        }
    })
}
