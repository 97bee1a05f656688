//! A wall clock that is set back: what waits for a time waits no longer for it.

use std::time::Duration;

use crate::{
    appliance::Appliance,
    clock::Clock,
    heartbeat,
    model::backoff,
    store::{StoreError, waits},
    work::worker,
};

/// How often the two clocks are compared.
const EVERY: Duration = Duration::from_secs(1);
/// By less than this a clock is slewed, not set; nobody feels it.
const UNFELT: Duration = Duration::from_millis(500);

/// Cuts what a clock has left behind that was set back while nobody looked, and moves what waits with one that is set
/// back from now on, until the appliance closes.
pub fn watch(appliance: &Appliance) {
    // Counted from here on what it is set back by, until that has been carried out.
    let mut ahead = ahead(&appliance.clock);
    let mut is_cut = false;
    while !appliance.closing.wait(EVERY) {
        heartbeat::beat();
        let now = self::ahead(&appliance.clock);
        let set_back = Duration::from_millis(u64::try_from(ahead.saturating_sub(now)).unwrap_or(0));
        let done = match (is_cut, set_back > UNFELT) {
            (_, true) => move_waits(appliance, set_back),
            (false, false) => cut(appliance),
            (true, false) => Ok(()),
        };
        match done {
            Ok(()) => (ahead, is_cut) = (now, true),
            Err(error) => {
                tracing::error!(event = "clock.not_followed", %error, "waits could not be moved; tried again")
            }
        }
    }
}

/// Milliseconds that the wall clock is ahead of the steady one.
fn ahead(clock: &Clock) -> i64 {
    clock.now().0.saturating_sub(clock.steady() / 1_000_000)
}

fn move_waits(appliance: &Appliance, by: Duration) -> Result<(), StoreError> {
    let (now, longest) = (appliance.clock.now(), worker::longest_claim(&appliance.config));
    let rows = appliance.store.read(|connection| waits::of_rows_beyond(connection, now))?;
    let mut moved = 0;
    for piece in rows.chunks(waits::MOVED_AT_ONCE) {
        let piece = piece.to_vec();
        moved += appliance.store.write(move |tx| waits::move_rows(tx, &piece, by))?;
    }
    appliance.store.write(move |tx| {
        waits::move_others(tx, by)?;
        waits::cut_claims(tx, longest)
    })?;
    appliance.under_way.forget_expiries();
    let by_ms = by.as_millis() as u64;
    tracing::warn!(
        event = "clock.set_back",
        by_ms,
        rows = moved,
        "the clock was set back; what waits was moved with it"
    );
    ring(appliance);
    Ok(())
}

fn cut(appliance: &Appliance) -> Result<(), StoreError> {
    let asked = appliance.config.dependencies.values().map(|dependency| dependency.max_retry_after).max();
    let longest = longest_pause(asked.unwrap_or_default()) + backoff::LONGEST_WAIT;
    let beyond = appliance.clock.now().after(longest);
    let rows = appliance.store.read(|connection| waits::of_rows_beyond(connection, beyond))?;
    for piece in rows.chunks(waits::MOVED_AT_ONCE) {
        let piece = piece.to_vec();
        appliance.store.write(move |tx| waits::cut_rows(tx, &piece, longest))?;
    }
    let longest_claim = worker::longest_claim(&appliance.config);
    appliance.store.write(move |tx| waits::cut_claims(tx, longest_claim))?;
    appliance.under_way.forget_expiries();
    if !rows.is_empty() {
        ring(appliance);
    }
    Ok(())
}

/// A gate is closed for no longer.
fn longest_pause(asked: Duration) -> Duration {
    use crate::downstream::gate::{JITTER, LONGEST_PAUSE};
    asked.max(LONGEST_PAUSE).mul_f64(1.0 + JITTER)
}

fn ring(appliance: &Appliance) {
    appliance.work_bell.ring();
    appliance.extract_bell.ring();
}
