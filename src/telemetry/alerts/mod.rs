//! Alerts: what is wrong, told to an operator's hooks once when it begins and once when it is over.
//!
//! ```text
//!                seen            for long enough           over
//!   nothing ───────────► pending ─────────────► firing ─────────► resolved
//!                           │ over                 each hook takes "firing", then "resolved"
//!                           ▼
//!                        nothing
//! ```
//!
//! A thread looks every `check_every` what is wrong ([`conditions`]), compares that with what the database says was wrong
//! before ([`plan`]), and writes what changed. So an alert begins once, however often it is seen and however often the
//! server starts; and what a check cannot know, as just after a start, it leaves as it was. The states are Prometheus'
//! (`for` is the wait in `pending`).
//!
//! Each hook has a thread that asks the database what its hook is to be told next, and tells that until it is taken
//! ([`hooks`]). What was told is kept, and not what is to be: a receiver that was away hears of what is wrong now, and of what began
//! and ended meanwhile, each once and in order; nothing piles up for it. Delivery is at least once, under an id by which
//! a receiver knows a repetition.
//!
//! Nothing is repeated while it lasts. Alertmanager does so every four hours, because it cannot know whether somebody has
//! read the first message; a channel that says the same all night is muted, and then it tells nothing at all. What lasts is
//! shown by `GET /ops/v1/overview`, the page and `dripfeed alerts list`.
//!
//! A flood is gathered: of the kinds that are about a batch each, [`plan::MOST_SINGLE`] an hour are told one by one, and all others
//! together as one alert without a subject, which is over when none of them is left.
//!
//! Messages hold ids, names of dependencies and steps, codes and counts: nothing of a row, and nothing that says who a
//! client is.

mod conditions;
pub mod hooks;
mod message;
mod plan;

use std::time::Duration;

use crate::{
    appliance::Appliance,
    heartbeat,
    model::Timestamp,
    store::{
        StoreError,
        alerts::{self, Alert, AlertState, Change},
    },
    tls::Tls,
};

/// How long alerts are kept to be looked at, after they were over.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Changes that one transaction makes. What a crash leaves out the next check finds.
const CHANGES_AT_ONCE: usize = 1_000;

/// Looks what is wrong until the appliance closes. `tls` is what callers are shown, where that is not another's business.
pub fn watch(appliance: &Appliance, tls: Option<&Tls>) {
    loop {
        if let Err(error) = check(appliance, tls) {
            tracing::error!(event = "alerts.not_checked", %error, "what is wrong could not be looked up or noted; it is looked at again by itself");
        }
        heartbeat::rest(appliance.config.alerts.check_every);
        if appliance.closing.wait(appliance.config.alerts.check_every) {
            return;
        }
    }
}

fn check(appliance: &Appliance, tls: Option<&Tls>) -> Result<(), StoreError> {
    let now = appliance.clock.now();
    let (standing, lately) = appliance.store.read(|connection| {
        Ok((alerts::standing(connection)?, alerts::fired_since(connection, now.before(plan::WINDOW))?))
    })?;
    let mut checks = conditions::look(appliance, now, &standing)?;
    checks.push(conditions::certificate(tls.and_then(Tls::validity), now));
    let mut changes = Vec::new();
    for check in &checks {
        let of_kind: Vec<&Alert> = standing.iter().filter(|alert| alert.kind == check.kind).collect();
        let lately = lately.iter().find(|(kind, _)| *kind == check.kind).map_or(0, |(_, fired)| *fired);
        changes.extend(plan::plan(check, &of_kind, lately, now));
    }
    if changes.is_empty() {
        return Ok(());
    }
    for some in changes.chunks(CHANGES_AT_ONCE) {
        let some = some.to_vec();
        appliance.store.write(move |tx| alerts::change(tx, &some))?;
    }
    appliance.store.write(move |tx| alerts::sweep(tx, now.before(KEPT)))?;
    changes.iter().for_each(|change| log(change, &standing, now));
    Ok(())
}

/// One line for each that begins or is over, once that is written.
fn log(change: &Change, standing: &[Alert], now: Timestamp) {
    let find = |alert: i64| standing.iter().find(|standing| standing.alert == alert);
    match change {
        Change::Begin { kind, subject, summary, state: AlertState::Firing, .. } => {
            tracing::warn!(event = "alert.fired", alert = kind.as_str(), subject, summary, "an alert fires");
        }
        Change::Fire(alert) => {
            if let Some(Alert { kind, subject, summary, .. }) = find(*alert) {
                tracing::warn!(event = "alert.fired", alert = kind.as_str(), subject, summary, "an alert fires");
            }
        }
        Change::Resolve(alert) => {
            if let Some(Alert { kind, subject, since, .. }) = find(*alert) {
                let lasted_seconds = now.since(*since).as_secs();
                tracing::info!(
                    event = "alert.resolved",
                    alert = kind.as_str(),
                    subject,
                    lasted_seconds,
                    "an alert is over"
                );
            }
        }
        Change::Begin { .. } | Change::Gather(_) | Change::Say(..) | Change::Forget(_) => {}
    }
}
