//! What a batch can expect: why it does not move, and when it will be done. Gathers what both are told from; what it
//! costs does not depend on how many rows there are, and where there are many batches, one look at them does for everybody who
//! asks within a second.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    crowd::Crowd,
    estimate::{Estimate, Pace, Queued, Scene, Standing},
    waiting::{self, Next, Runs},
};
use crate::{
    appliance::Appliance,
    model::{BatchStatus, Timestamp, Workflow},
    store::{
        StoreError,
        batches::Batch,
        clients::Client,
        grants,
        queue::{self, Unfinished},
    },
};

/// Rows that were there for so long could have been begun: what flows since then is all that can.
const SETTLED_IN: Duration = Duration::from_secs(6);

/// More batches than this are not looked at anew for everybody: how they stand to each other does not change from one instant
/// to the next.
const MANY: usize = 200;
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// The answers to "why not?" and "when?".
#[derive(Debug, Clone, Default)]
pub struct Outlook {
    /// Why nothing moves, where nothing does.
    pub waiting_for: Option<String>,
    /// When the batch will be done, where that can be said.
    pub estimate: Option<Estimate>,
}

/// One look at everything that waits, for the outlooks of any number of batches.
pub struct Look {
    scene: Scene,
    default_limit: u32,
    is_paused: bool,
    runs_are_missing: bool,
}

/// The last look, while it is good. There is one at a time, so that its memory is not taken for each who asks.
#[derive(Default)]
pub struct LastLook(Mutex<Option<(Instant, Arc<Look>)>>);

impl Outlook {
    /// What this batch can expect.
    pub fn of(appliance: &Appliance, batch: &Batch) -> Result<Self, StoreError> {
        if batch.status.is_finished() { Ok(Self::default()) } else { Look::at(appliance)?.of(appliance, batch) }
    }

    /// What a batch can expect that is about to be made of so many rows.
    pub fn of_new(appliance: &Appliance, client: &Client, workflow: &Workflow, rows: u32) -> Result<Self, StoreError> {
        let grant = appliance.store.read(|connection| grants::of_client(connection, client.client))?;
        let look = Look::at(appliance)?;
        let batch = Queued {
            batch: i64::MAX,
            client: client.client,
            workflow_version: appliance.workflows.current(&workflow.name).map_or(0, |kept| kept.version),
            pending: rows.into(),
            processing: 0,
            unextracted: rows.into(),
            is_paused: client.paused_at.is_some(),
            limit: client.rows_per_run.unwrap_or(look.default_limit),
            granted: grant.map_or(0, |grant| grant.remaining),
        };
        Ok(Self {
            waiting_for: Some(waiting::EXTRACTION.to_owned()),
            estimate: look.estimate(&batch, &Standing::default()),
        })
    }
}

impl Look {
    /// A look at how it is now; the last one, where there is so much to be seen that it does for a while.
    pub fn at(appliance: &Appliance) -> Result<Arc<Self>, StoreError> {
        let mut last = appliance.last_look.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, look)) = &*last
            && look.scene.crowd.size() > MANY
            && at.elapsed() < LOOKED_AT_EVERY
        {
            return Ok(look.clone());
        }
        let look = Arc::new(Self::now(appliance)?);
        *last = Some((Instant::now(), look.clone()));
        Ok(look)
    }

    fn now(appliance: &Appliance) -> Result<Self, StoreError> {
        let settings = &appliance.config.dispatch;
        let (queue, pause, last_run) = appliance.store.read(|connection| {
            Ok((queue::look(connection)?, grants::pause_of(connection)?, grants::last_run(connection)?))
        })?;
        let now = appliance.clock.now();
        let runs = Runs::of(appliance, last_run.map(|run| run.at));
        let default_limit = settings.rows_per_client_per_run;
        let mut scene = Scene {
            now,
            every: runs.every,
            last_run: runs.last,
            dependencies: BTreeMap::new(),
            steps: steps_of(appliance, &queue),
            under_way: appliance.config.workers.under_way,
            crowd: Crowd::of(queue.iter().cloned().map(|batch| queued(batch, default_limit)).collect()),
        };
        scene.dependencies = paces(appliance, &wanted(&scene, &queue));
        let (is_paused, runs_are_missing) = (pause.is_some(), runs.missing_since(now).is_some());
        Ok(Self { scene, default_limit, is_paused, runs_are_missing })
    }

    /// What one of these batches can expect.
    pub fn of(&self, appliance: &Appliance, batch: &Batch) -> Result<Outlook, StoreError> {
        let waiting_for = waiting::of_batch(appliance, batch)?;
        let Some(seen) = self.scene.crowd.get(batch.batch).filter(|_| batch.cancelled_at.is_none()) else {
            return Ok(Outlook { waiting_for, estimate: None });
        };
        // The batch itself is known as it is now.
        let queued = &Queued {
            pending: batch.counts.pending.into(),
            processing: batch.counts.processing.into(),
            unextracted: batch.counts.total.saturating_sub(batch.extracted).into(),
            is_paused: batch.paused_at.is_some() || batch.client_paused_at.is_some(),
            ..seen.clone()
        };
        // When somebody makes room cannot be said, nor when somebody runs a row.
        let is_asked_for = batch.status == BatchStatus::Queued
            && (waiting::braked(appliance, batch)?.is_some()
                || waiting::for_whom_nobody_tries(appliance, batch, self.scene.now)?);
        if waiting::no_room(appliance, batch).is_some() || is_asked_for {
            return Ok(Outlook { waiting_for, estimate: None });
        }
        let steps = self.scene.steps.get(&queued.workflow_version).map_or(0, Vec::len);
        let standing = standing(appliance, batch, steps, self.scene.now)?;
        Ok(Outlook { waiting_for, estimate: self.estimate(queued, &standing) })
    }

    fn estimate(&self, batch: &Queued, standing: &Standing) -> Option<Estimate> {
        let spends = batch.pending.saturating_sub(standing.prepaid);
        let waits_for_runs = self.runs_are_missing && spends > batch.granted.into();
        if self.is_paused || waits_for_runs { None } else { self.scene.estimate(batch, standing) }
    }
}

/// When the first row of a batch moves of which every row waits for another try.
fn not_before(appliance: &Appliance, batch: &Batch, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    if batch.status != BatchStatus::Queued || batch.next_row <= batch.counts.total || batch.counts.processing > 0 {
        return Ok(batch.next_attempt_at.filter(|_| batch.status == BatchStatus::Pending));
    }
    Ok(match waiting::next_step(appliance, batch, now)? {
        Next::Later { at, .. } => Some(at),
        Next::At(_) | Next::Nothing => None,
    })
}

fn queued(batch: Unfinished, default_limit: u32) -> Queued {
    Queued {
        batch: batch.batch,
        client: batch.client,
        workflow_version: batch.workflow_version,
        pending: batch.pending.into(),
        processing: batch.processing.into(),
        unextracted: batch.unextracted.into(),
        is_paused: batch.is_paused,
        limit: batch.rows_per_run.unwrap_or(default_limit),
        granted: batch.granted,
    }
}

/// How the rows of a batch stand that nobody has claimed.
fn standing(appliance: &Appliance, batch: &Batch, steps: usize, now: Timestamp) -> Result<Standing, StoreError> {
    let not_before = not_before(appliance, batch, now)?;
    if batch.status != BatchStatus::Queued {
        return Ok(Standing { not_before, ..Standing::default() });
    }
    let waiting = appliance.store.read(|connection| queue::waiting(connection, batch.batch, steps))?;
    Ok(Standing {
        not_before,
        last_due: waiting.last_due.filter(|at| *at > now),
        waiting: waiting.by_step.into_iter().map(u64::from).collect(),
        unstarted: u64::from((batch.counts.total + 1).saturating_sub(batch.next_row)),
        prepaid: waiting.prepaid.into(),
    })
}

/// The dependencies for which rows have waited that could be claimed: what flows there is all that can.
fn wanted<'s>(scene: &'s Scene, queue: &[Unfinished]) -> BTreeSet<&'s str> {
    let has_waited = |batch: &&Unfinished| {
        let since = batch.unstarted_since.is_some_and(|since| scene.now.since(since) >= SETTLED_IN);
        since && !batch.is_paused && batch.granted > 0
    };
    let steps = queue.iter().filter(has_waited).filter_map(|batch| scene.steps.get(&batch.workflow_version));
    steps.flatten().map(String::as_str).collect()
}

fn paces(appliance: &Appliance, wanted: &BTreeSet<&str>) -> BTreeMap<String, Pace> {
    let reach = appliance.downstream.reach();
    let paces = appliance.downstream.status().into_iter().map(|status| {
        let seen = appliance.observed.of(&status.name);
        let pace = Pace {
            per_second: status.adapted_rate_per_second,
            places: reach.get(&status.name).copied().unwrap_or(status.concurrency),
            latency: seen.latency.map_or(0.0, |latency| latency.as_secs_f64()),
            repeats: seen.repeats,
            flow: seen.flow.filter(|_| wanted.contains(status.name.as_str())),
            closed: appliance.downstream.gate(&status.name).map(|closed| (closed.until, closed.reason)),
        };
        (status.name, pace)
    });
    paces.collect()
}

/// Whom the steps of each version of a workflow call: of those that batches here have and that can be worked, and of the
/// configured ones.
fn steps_of(appliance: &Appliance, queue: &[Unfinished]) -> BTreeMap<i64, Vec<String>> {
    let mut versions: BTreeSet<i64> = queue.iter().map(|batch| batch.workflow_version).collect();
    versions.extend(appliance.workflows.current_versions());
    let of_version = |version| {
        let kept = appliance.workflow(version).ok().filter(|kept| kept.way().is_ok())?;
        Some((version, kept.workflow.steps.iter().map(|step| step.dependency.clone()).collect()))
    };
    versions.into_iter().filter_map(of_version).collect()
}
