//! Why nothing moves: one sentence for a person, about a batch or one of its rows.
//!
//! The order is that in which claims are refused: somebody's pause, the client's grant, a gate or a rate. What it costs
//! does not depend on how many rows the batch has.

mod in_hand;

use std::time::Duration;

use super::{clock::MISSING_RUNS, estimate};
use crate::{
    appliance::Appliance,
    config::tell_size,
    downstream::{GateReason, Wait, WaitReason, Way},
    model::{BatchStatus, RowStatus, Timestamp},
    room::NoRoom,
    store::{
        StoreError,
        batches::{self, Batch},
        claims,
        grants::{self, Grant},
        queue,
        quotas::{self, Full},
        retries,
        rows::StoredRow,
        stall::{Stall, Why},
    },
    work::workflows::VersionError,
};

/// A silence of the built-in clock that is shorter than this means only that the machine is busy.
const SHORTEST_ALARM: Duration = Duration::from_secs(10);

/// What every batch waits for at first.
pub(super) const EXTRACTION: &str = "its turn to be extracted";
/// What it waits for where nothing is in its way but others.
const TURN: &str = "its turn";

/// What a batch waits for; `None` where it moves, or is finished.
pub fn of_batch(appliance: &Appliance, batch: &Batch) -> Result<Option<String>, StoreError> {
    let now = appliance.clock.now();
    // Then nothing at all moves, whatever else there is.
    if let Some(stall) = appliance.store.stall().filter(|_| !batch.status.is_finished()) {
        return Ok(Some(stalled(stall, now)));
    }
    match batch.status {
        BatchStatus::Pending => Ok(Some(extraction(appliance, batch, now))),
        BatchStatus::Queued if batch.cancelled_at.is_none() => of_queued(appliance, batch, now),
        _ => Ok(None),
    }
}

fn stalled(Stall { since, why }: Stall, now: Timestamp) -> String {
    let since = since.told(now);
    match why {
        Why::Locked => format!(
            "the database: another process has locked it since {since}, and nothing can be written until that lets go"
        ),
        Why::DiskFull => format!(
            "room on the disk: it is full, and the database could write nothing since {since}; `dripfeed purge` or a larger \
             volume makes some"
        ),
        Why::Slow => format!("the disk, which has not taken what the database wrote at {since}"),
        Why::Failing => format!("the database, which could write nothing since {since}: the log says why"),
    }
}

/// What a row waits for, in a batch that waits for this.
pub fn of_row(appliance: &Appliance, row: &StoredRow, of_batch: Option<&str>) -> Option<String> {
    let now = appliance.clock.now();
    match row.next_attempt_at.filter(|at| *at > now) {
        // Then nothing at all moves, whoever has the row.
        _ if !row.status.is_finished() && appliance.store.stall().is_some() => of_batch.map(str::to_owned),
        _ if row.status != RowStatus::Pending => None,
        Some(at) => Some(format!("its next try is due at {}", at.told_ahead(now))),
        None => Some(of_batch.unwrap_or(TURN).to_owned()),
    }
}

fn extraction(appliance: &Appliance, batch: &Batch, now: Timestamp) -> String {
    if no_room(appliance, batch).is_some() {
        return "room on the disk for its rows; `dripfeed purge` or a larger volume makes some".to_owned();
    }
    match batch.next_attempt_at.filter(|at| *at > now) {
        Some(at) => format!("{}, the next try is due at {}", stumbled_over(batch), at.told_ahead(now)),
        None => EXTRACTION.to_owned(),
    }
}

/// Why a batch is not extracted yet. Where its file lies, and what its storage said of it, is told in its error.
fn stumbled_over(batch: &Batch) -> &str {
    match batch.error.as_ref().map(|(code, _)| code.as_str()) {
        Some("disk_full") => "there was no room on the disk for its rows",
        Some("undecryptable") => "its workflow could not be read",
        Some("unavailable" | "internal") => "the database did not take its rows",
        _ => "its stored file could not be read",
    }
}

/// What is missing on the disk for a batch that waits to be extracted.
pub(super) fn no_room(appliance: &Appliance, batch: &Batch) -> Option<NoRoom> {
    if batch.status == BatchStatus::Pending { appliance.room.for_rows_of(batch).err() } else { None }
}

fn of_queued(appliance: &Appliance, batch: &Batch, now: Timestamp) -> Result<Option<String>, StoreError> {
    if let Some(pause) = appliance.store.read(grants::pause_of)? {
        let since = pause.at.told(now);
        return Ok(Some(format!(
            "dispatch is paused by {} since {since}{}",
            pause.by,
            because(pause.reason.as_deref())
        )));
    }
    if let Some(at) = batch.client_paused_at {
        return Ok(Some(format!("its client is paused since {}", at.told(now))));
    }
    if let Some(at) = batch.paused_at {
        let because = because(batch.paused_reason.as_deref());
        return Ok(Some(format!("the batch is paused since {}{because}", at.told(now))));
    }
    if batch.counts.processing > 0 {
        return in_hand::stuck(appliance, batch, now);
    }
    if let Some(braked) = braked(appliance, batch)? {
        return Ok(Some(braked));
    }
    let kept = match appliance.workflow(batch.workflow_version) {
        Ok(kept) => kept,
        Err(VersionError::Store(error)) => return Err(error),
        Err(error) => return Ok(Some(error.to_string())),
    };
    let way = match kept.way() {
        Ok(way) => way,
        Err(error) => return Ok(Some(error.to_string())),
    };
    let next = next_step(appliance, batch, now)?;
    if let Some((dependency, reason)) = person_for(way, &next) {
        return Ok(Some(for_a_person(&dependency, reason, &batch.id.to_string())));
    }
    let step = match next {
        Next::At(step) => step,
        Next::Later { at, step } => {
            let shut = way.obstacle(step);
            let shut = shut.filter(|(_, wait)| matches!(wait.why, WaitReason::Gate(_)));
            let again = || format!("its rows are tried again, the first at {}", at.told_ahead(now));
            // The gate is tried by the row that is due first, where that is later.
            let later = |wait: Wait| Wait { until: wait.until.max(at), ..wait };
            return Ok(Some(shut.map_or_else(again, |(dependency, wait)| obstacle(&dependency, later(wait), now))));
        }
        Next::Nothing => return being_put_back(appliance, batch),
    };
    if let Some(grant) = grant(appliance, batch, now)? {
        // A row that was put down between two steps goes on without one.
        let steps = kept.workflow.steps.len();
        if step == 0 || appliance.store.read(|connection| queue::waiting(connection, batch.batch, steps))?.prepaid == 0
        {
            return Ok(Some(grant));
        }
    }
    if let Some((dependency, wait)) = way.obstacle(step) {
        return Ok(Some(obstacle(&dependency, wait, now)));
    }
    if let Some(bytes) = appliance.under_way.without_room(batch.batch) {
        return Ok(Some(format!(
            "memory for its next row, which is wide: {} of such rows are under way, and `workers.under_way_bytes` allows no more \
             at once",
            told_bytes(bytes)
        )));
    }
    if let Some(full) = full(appliance, kept.workflow.steps.get(step).map(|step| step.dependency.as_str())) {
        return Ok(Some(full));
    }
    let elder = appliance.store.read(|connection| batches::has_elder(connection, batch))?;
    Ok(Some(if elder { "older batches of its client go first" } else { TURN }.to_owned()))
}

/// Why none of its rows is sent, whatever else there is: their outcomes would find no room, on the disk or in their client's
/// quota. When there will be some cannot be said.
pub(super) fn braked(appliance: &Appliance, batch: &Batch) -> Result<Option<String>, StoreError> {
    if appliance.room.for_more_rows().is_err() {
        let told = "room on the disk: what is left is for the outcomes of rows under way; `dripfeed purge` or a larger volume \
                    makes some";
        return Ok(Some(told.to_owned()));
    }
    let quotas = appliance.config.quotas;
    let full = appliance.store.read(|connection| quotas::full(connection, batch.client, quotas))?;
    Ok(full.map(|Full { used, limit }| {
        let (used, limit) = (tell_size(used), tell_size(limit));
        format!(
            "its client's quota `stored_bytes`: {used} of {limit} are used, with what its rows have saved of answers; delete \
             batches that are not needed any more, or ask the operator for more"
        )
    }))
}

/// Whether rows of a batch wait for a person, who runs one of them by hand: when that will be cannot be said.
pub(super) fn for_whom_nobody_tries(appliance: &Appliance, batch: &Batch, now: Timestamp) -> Result<bool, StoreError> {
    let Ok(kept) = appliance.workflow(batch.workflow_version) else { return Ok(false) };
    let Ok(way) = kept.way() else { return Ok(false) };
    // Where nobody is asked for at any step the store need not be.
    if (0..kept.workflow.steps.len()).all(|step| way.asks_for_a_person(step).is_none()) {
        return Ok(false);
    }
    Ok(person_for(way, &next_step(appliance, batch, now)?).is_some())
}

fn person_for(way: &Way, next: &Next) -> Option<(String, GateReason)> {
    match next {
        Next::At(step) | Next::Later { step, .. } => way.asks_for_a_person(*step),
        Next::Nothing => None,
    }
}

fn for_a_person(dependency: &str, reason: GateReason, batch: &str) -> String {
    format!(
        "a person: {dependency} {}, and its rows are never sent twice: too many were lost to find out if it is back, and no \
         other is tried by itself; `dripfeed row run {batch}/NUMBER` finds out",
        shuts(reason)
    )
}

/// What a batch waits for that has no row to claim.
fn being_put_back(appliance: &Appliance, batch: &Batch) -> Result<Option<String>, StoreError> {
    let rows = appliance.store.read(|connection| retries::put_back_so_far(connection, batch.batch))?;
    let told = rows.map(|rows| format!("its failed rows are put back for another try, {rows} so far"));
    Ok(told.or_else(|| (batch.counts.pending > 0).then(|| TURN.to_owned())))
}

/// What no more requests may be under way to, or at all, where others have all the places.
fn full(appliance: &Appliance, dependency: Option<&str>) -> Option<String> {
    let all = appliance.downstream.status();
    let its_own = all.iter().find(|status| Some(status.name.as_str()) == dependency)?;
    if its_own.in_flight >= its_own.concurrency {
        let (name, count) = (&its_own.name, requests(its_own.in_flight.into()));
        return Some(format!("{name}: {count} under way, and no more may be at once"));
    }
    let (under_way, most) =
        (all.iter().map(|status| status.in_flight as usize).sum::<usize>(), appliance.config.workers.under_way);
    let told = || format!("{} under way, and `workers.under_way` allows no more at once", requests(under_way as u64));
    (under_way >= most).then(told).or_else(|| places_of_others(appliance, &its_own.name))
}

/// What a dependency has no place for any more, although there are some: those are for other ones.
fn places_of_others(appliance: &Appliance, dependency: &str) -> Option<String> {
    let rows = appliance.downstream.out_of_places(dependency).filter(|rows| *rows > 0)?;
    Some(format!(
        "{dependency}: {} under way to it, and `workers.under_way` keeps the other places for other dependencies",
        rows_are(rows)
    ))
}

fn told_bytes(bytes: usize) -> String {
    format!("{} KiB", bytes.div_ceil(1 << 10))
}

fn requests(count: u64) -> String {
    if count == 1 { "1 request is".to_owned() } else { format!("{count} requests are") }
}

fn rows_are(count: usize) -> String {
    if count == 1 { "1 row is".to_owned() } else { format!("{count} rows are") }
}

fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(": {reason}")).unwrap_or_default()
}

/// Where the batch's next row would start.
pub(super) enum Next {
    /// At this step, as soon as it is claimed.
    At(usize),
    /// All that are left wait for another try.
    Later {
        /// The first one until then.
        at: Timestamp,
        /// At this step.
        step: usize,
    },
    /// None is left.
    Nothing,
}

pub(super) fn next_step(appliance: &Appliance, batch: &Batch, now: Timestamp) -> Result<Next, StoreError> {
    let kept = appliance.workflow(batch.workflow_version).ok();
    let steps = kept.map_or(0, |kept| kept.workflow.steps.len());
    let mut first = None;
    for step in (0..steps).rev() {
        let due = appliance.store.read(|connection| claims::first_due(connection, batch.batch, step as u32))?;
        match due {
            Some(at) if at <= now => return Ok(Next::At(step)),
            Some(at) => first = Some(first.map_or((at, step), |first: (Timestamp, usize)| first.min((at, step)))),
            None => {}
        }
    }
    Ok(match first {
        _ if batch.next_row <= batch.counts.total => Next::At(0),
        Some((at, step)) => Next::Later { at, step },
        None => Next::Nothing,
    })
}

/// Why the client may not claim, where that is so.
fn grant(appliance: &Appliance, batch: &Batch, now: Timestamp) -> Result<Option<String>, StoreError> {
    let (grant, limit, last) = appliance.store.read(|connection| {
        let client = batch.client;
        let (grant, limit) = (grants::of_client(connection, client)?, grants::limit_of(connection, client)?);
        Ok((grant, limit, grants::last_run(connection)?))
    })?;
    let limit = limit.unwrap_or(appliance.config.dispatch.rows_per_client_per_run);
    Ok(without_grant(grant, limit, Runs::of(appliance, last.map(|run| run.at)), now))
}

/// When dispatch runs come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runs {
    /// The last one.
    pub last: Option<Timestamp>,
    /// Between two of them.
    pub every: Duration,
    /// Longer than this no silence is chance.
    pub alarm_after: Duration,
    /// Since when a server waits in vain for the first one.
    pub none_since: Option<Timestamp>,
}

impl Runs {
    /// Of this appliance, which had the last one then.
    pub(super) fn of(appliance: &Appliance, last: Option<Timestamp>) -> Self {
        let settings = &appliance.config.dispatch;
        let every = settings.every.unwrap_or(settings.expect_every);
        let shortest = settings.every.map_or(Duration::ZERO, |_| SHORTEST_ALARM);
        let alarm_after = every.saturating_mul(MISSING_RUNS).max(shortest);
        Self { last, every, alarm_after, none_since: appliance.dispatch_watch.missing_since() }
    }

    /// Since when no run came, where so many are missing that it cannot be chance.
    pub(super) fn missing_since(self, now: Timestamp) -> Option<Timestamp> {
        match self.last {
            Some(last) => (now.since(last) > self.alarm_after).then_some(last),
            None => self.none_since,
        }
    }

    fn next(self, now: Timestamp) -> String {
        let due = self.last.map(|last| last.after(self.every)).filter(|at| *at > now);
        due.map_or_else(|| "is due now".to_owned(), |at| at.told_ahead(now))
    }
}

fn without_grant(grant: Option<Grant>, limit: u32, runs: Runs, now: Timestamp) -> Option<String> {
    if grant.is_some_and(|grant| grant.remaining > 0) {
        return None;
    }
    if limit == 0 {
        return Some("client limit: no row a run, until an operator grants some".to_owned());
    }
    if let Some(since) = runs.missing_since(now) {
        let every = estimate::told(runs.every);
        return Some(format!("no dispatch run came since {}, and one is due every {every}", since.told(now)));
    }
    let next = runs.next(now);
    Some(match grant {
        Some(grant) if grant.granted < limit => {
            format!("the {} rows that its client was granted are used up, next run {next}", grant.granted)
        }
        Some(_) => format!("client limit: {limit} rows a run, next run {next}"),
        None => format!("no dispatch run has granted its client rows yet, next run {next}"),
    })
}

fn obstacle(dependency: &str, wait: Wait, now: Timestamp) -> String {
    // Of a time that has come nothing is told that would go on with the clock.
    let until = if wait.until > now { wait.until.told_ahead(now) } else { "is due now".to_owned() };
    match wait.why {
        WaitReason::Gate(reason) => format!("{dependency} {}, next try {until}", shuts(reason)),
        why => format!("{dependency}: {why}, next call {until}"),
    }
}

/// What a dependency does that its gate is closed for, behind its name.
pub(super) fn shuts(reason: GateReason) -> &'static str {
    match reason {
        GateReason::RateLimited => "answers 429, or 403 with Retry-After",
        GateReason::Unavailable => "answers 503",
        GateReason::Failing => "fails at every request",
        GateReason::Unauthorized => "answers 401 to its credential",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downstream::Lack;

    const NOW: Timestamp = Timestamp(1_786_000_000_000);

    fn ago(seconds: u64) -> Timestamp {
        NOW.before(Duration::from_secs(seconds))
    }

    fn says(grant: Option<(u32, u32)>, limit: u32, last: Option<u64>) -> Option<String> {
        let (every, alarm_after) = (Duration::from_secs(60), Duration::from_secs(180));
        let runs = Runs { last: last.map(ago), every, alarm_after, none_since: None };
        without_grant(grant.map(|(granted, remaining)| Grant { granted, remaining }), limit, runs, NOW)
    }

    #[test]
    fn a_client_without_a_grant_hears_of_its_limit_and_the_next_run() {
        assert_eq!(says(Some((500, 1)), 500, Some(10)), None);
        let limited = says(Some((500, 0)), 500, Some(10)).expect("a sentence");
        assert_eq!(limited, "client limit: 500 rows a run, next run 07:07:30 UTC");
        let small = says(Some((20, 0)), 500, Some(10)).expect("a sentence");
        assert_eq!(small, "the 20 rows that its client was granted are used up, next run 07:07:30 UTC");
        let none = says(None, 500, None).expect("a sentence");
        assert_eq!(none, "no dispatch run has granted its client rows yet, next run is due now");
        let zero = says(None, 0, Some(10)).expect("a sentence");
        assert_eq!(zero, "client limit: no row a run, until an operator grants some");
    }

    #[test]
    fn runs_that_do_not_come_are_told() {
        assert!(says(Some((500, 0)), 500, Some(180)).expect("a sentence").ends_with("next run is due now"));
        let missing = says(Some((500, 0)), 500, Some(181)).expect("a sentence");
        assert_eq!(missing, "no dispatch run came since 07:03:39 UTC, and one is due every 60 s");
    }

    #[test]
    fn a_dependency_that_is_shut_is_named_with_its_next_try() {
        let wait = |why| Wait { until: NOW.after(Duration::from_secs(10)), why };
        for (why, told) in [
            (
                WaitReason::Gate(GateReason::RateLimited),
                "addresses answers 429, or 403 with Retry-After, next try 07:06:50 UTC",
            ),
            (WaitReason::Gate(GateReason::Unavailable), "addresses answers 503, next try 07:06:50 UTC"),
            (WaitReason::Gate(GateReason::Failing), "addresses fails at every request, next try 07:06:50 UTC"),
            (
                WaitReason::Gate(GateReason::Unauthorized),
                "addresses answers 401 to its credential, next try 07:06:50 UTC",
            ),
            (WaitReason::Rate, "addresses: its rate limit, next call 07:06:50 UTC"),
            (
                WaitReason::Lack(Lack::Files),
                "addresses: no more files may be open here: raise the limit of them (LimitNOFILE, ulimit -n), next call \
                 07:06:50 UTC",
            ),
        ] {
            assert_eq!(obstacle("addresses", wait(why), NOW), told);
        }
        let due = Wait { until: NOW, why: WaitReason::Gate(GateReason::Failing) };
        assert_eq!(obstacle("addresses", due, NOW), "addresses fails at every request, next try is due now");
    }

    #[test]
    fn a_person_who_is_asked_for_hears_what_to_run() {
        let told = for_a_person("addresses", GateReason::Failing, "bat_1");
        assert!(
            told.starts_with("a person: addresses fails at every request, and its rows are never sent twice: "),
            "{told}"
        );
        assert!(told.ends_with("; `dripfeed row run bat_1/NUMBER` finds out"), "{told}");
    }
}
