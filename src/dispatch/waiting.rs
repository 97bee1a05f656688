//! Why nothing moves: one sentence for a person, about a batch or one of its rows.
//!
//! The order is that in which claims are refused: somebody's pause, the client's grant, a gate or a rate. What it costs
//! does not depend on how many rows the batch has.

use crate::{
    appliance::Appliance,
    downstream::{Wait, WaitReason},
    model::{BatchStatus, RowStatus, Timestamp},
    store::{
        StoreError,
        batches::{self, Batch},
        claims, grants,
        rows::StoredRow,
    },
};

/// What a batch waits for; `None` where it moves, or is finished.
pub fn of_batch(appliance: &Appliance, batch: &Batch) -> Result<Option<String>, StoreError> {
    let now = appliance.clock.now();
    match batch.status {
        BatchStatus::Pending => Ok(Some(extraction(batch, now))),
        BatchStatus::Queued if batch.cancelled_at.is_none() => of_queued(appliance, batch, now),
        _ => Ok(None),
    }
}

/// What a row waits for, in a batch that waits for this.
pub fn of_row(row: &StoredRow, of_batch: Option<&str>, now: Timestamp) -> Option<String> {
    match row.next_attempt_at.filter(|at| *at > now) {
        _ if row.status != RowStatus::Pending => None,
        Some(at) => Some(format!("its next try is due at {}", at.told(now))),
        None => Some(of_batch.unwrap_or("its turn").to_owned()),
    }
}

fn extraction(batch: &Batch, now: Timestamp) -> String {
    match batch.next_attempt_at.filter(|at| *at > now) {
        Some(at) => format!("its stored file could not be read, the next try is due at {}", at.told(now)),
        None => "its turn to be extracted".to_owned(),
    }
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
        return Ok(None);
    }
    let step = match next_step(appliance, batch, now)? {
        Next::At(step) => step,
        Next::Later(at) => return Ok(Some(format!("its rows are tried again, the first at {}", at.told(now)))),
        Next::Nothing => return Ok(None),
    };
    if let Some(grant) = grant(appliance, batch, now)? {
        return Ok(Some(grant));
    }
    if let Some((dependency, wait)) = appliance.downstream.obstacle(&batch.workflow, step) {
        return Ok(Some(obstacle(&dependency, wait, now)));
    }
    let elder = appliance.store.read(|connection| batches::has_elder(connection, batch))?;
    Ok(elder.then(|| "older batches of its client go first".to_owned()))
}

fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(": {reason}")).unwrap_or_default()
}

/// Where the batch's next row would start.
enum Next {
    /// At this step, as soon as it is claimed.
    At(usize),
    /// All that are left wait for another try, the first until then.
    Later(Timestamp),
    /// None is left.
    Nothing,
}

fn next_step(appliance: &Appliance, batch: &Batch, now: Timestamp) -> Result<Next, StoreError> {
    let steps = appliance.config.workflows.get(&batch.workflow).map_or(0, |workflow| workflow.steps.len());
    let mut first = None;
    for step in (0..steps).rev() {
        let due = appliance.store.read(|connection| claims::first_due(connection, batch.batch, step as u32))?;
        match due {
            Some(at) if at <= now => return Ok(Next::At(step)),
            Some(at) => first = Some(first.map_or(at, |first: Timestamp| first.min(at))),
            None => {}
        }
    }
    Ok(match first {
        _ if batch.next_row <= batch.counts.total => Next::At(0),
        Some(at) => Next::Later(at),
        None => Next::Nothing,
    })
}

/// Why the client may not claim, where that is so.
fn grant(appliance: &Appliance, batch: &Batch, now: Timestamp) -> Result<Option<String>, StoreError> {
    let (grant, last) = appliance
        .store
        .read(|connection| Ok((grants::of_client(connection, batch.client)?, grants::last_run(connection)?)))?;
    let settings = &appliance.config.dispatch;
    let every = settings.every.unwrap_or(settings.expect_every);
    let next = last.map_or(now, |run| run.at.after(every)).max(now).told(now);
    Ok(match grant {
        Some(grant) if grant.remaining > 0 => None,
        Some(grant) => {
            Some(format!("client limit: the {} rows of this run are used up, next run {next}", grant.granted))
        }
        None => Some(format!("no dispatch run has granted its client rows yet, next run {next}")),
    })
}

fn obstacle(dependency: &str, wait: Wait, now: Timestamp) -> String {
    let until = wait.until.max(now).told(now);
    match wait.why {
        WaitReason::Gate(reason) => format!("{dependency}: {reason}, next try {until}"),
        why => format!("{dependency}: {why}, next call {until}"),
    }
}
