//! The feeder: claims rows just in time, as many as workers and dependencies can take.
//!
//! Where rows flow fast some are claimed ahead, so that no worker waits for a claim's commit: no more than are completed within
//! [`AHEAD`], and what a pause or a crash finds under way is never more than [`ROWS_PER_THREAD`] for each worker.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    appliance::Appliance,
    crash_point::crash_point,
    downstream::{Downstream, Reservation},
    heartbeat,
    model::workflow::Repeat,
    store::{
        StoreError,
        claims::{self, Claimant, ClaimedRow, Openings},
    },
    work::pool::{Job, Pool, ROWS_PER_THREAD},
};

/// How long the feeder sleeps when nobody rings: retries that fall due and changes made by commands ring no bell.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);
/// And how long at least after it found nothing: every call that leaves rings, and each look costs a transaction.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
/// The pause after a fault of the database.
const PAUSE_AFTER_FAULT: Duration = Duration::from_secs(1);

/// As many rows are claimed ahead of the workers as were completed in so long before. Rows that fail do not count: where
/// an API turns all of them away, what that costs until the batch pauses itself is to be little.
const AHEAD: Duration = Duration::from_millis(100);

/// Claims and hands out rows until the appliance closes.
pub fn feed(appliance: &Arc<Appliance>, pool: &Pool) {
    let mut last_client = 0;
    let mut flow = Flow::new();
    while !appliance.closing.is_closed() {
        heartbeat::beat();
        let room = room(pool, flow.ahead(pool.completed()));
        let claimed = if room == 0 { Ok(0) } else { claim(appliance, pool, room, &mut last_client) };
        match claimed {
            Ok(0) => {
                appliance.closing.wait(SHORTEST_SLEEP);
                appliance.work_bell.wait(LONGEST_SLEEP);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(event = "claims.failed", %error, "rows could not be claimed");
                appliance.closing.wait(PAUSE_AFTER_FAULT);
            }
        }
    }
}

/// How many rows to claim. While some wait for a worker there is no haste, and a claim that takes few costs nearly what
/// one does that takes many.
fn room(pool: &Pool, ahead: usize) -> usize {
    let most = pool.threads() + ahead.min(pool.threads() * (ROWS_PER_THREAD - 1));
    let room = most.saturating_sub(pool.under_way());
    let is_worth_it = pool.waiting() == 0 || room >= pool.threads();
    if is_worth_it { room } else { 0 }
}

/// How fast rows are completed. Where the calls take long nothing is claimed ahead: a row that waits for a worker would do so for
/// long, and a pause would find it under way.
struct Flow {
    since: Instant,
    completed: usize,
    ahead: usize,
}

impl Flow {
    fn new() -> Self {
        Self { since: Instant::now(), completed: 0, ahead: 0 }
    }

    /// How many rows may be under way besides those that workers have in hand, where so many were completed by now.
    fn ahead(&mut self, completed: usize) -> usize {
        let tenths = self.since.elapsed().as_millis() / AHEAD.as_millis();
        if let Some(tenths) = usize::try_from(tenths).ok().filter(|tenths| *tenths > 0) {
            *self = Self { since: Instant::now(), completed, ahead: (completed - self.completed) / tenths };
        }
        self.ahead
    }
}

fn claim(appliance: &Arc<Appliance>, pool: &Pool, limit: usize, last_client: &mut i64) -> Result<usize, StoreError> {
    let claimant = Claimant {
        owner: appliance.owner,
        expires_at: appliance.clock.now().after(appliance.config.workers.claim_ttl),
    };
    let mut openings = Reserving { appliance: appliance.clone(), taken: Vec::new() };
    let after = *last_client;
    let (claimed, last, openings) = appliance.store.write(move |tx| {
        let (claimed, last) = claims::claim_rows(tx, claimant, limit, after, &mut openings)?;
        Ok((claimed, last, openings))
    })?;
    *last_client = last;
    let rows = claimed.len();
    if rows > 0 {
        crash_point("rows.claimed");
    }
    pool.begin(appliance, in_order_of_reservation(claimed, openings.taken));
    Ok(rows)
}

/// What the dependencies can take, asked and reserved while rows are being claimed. If the claim does not commit, the
/// reservations are given back by being dropped.
struct Reserving {
    appliance: Arc<Appliance>,
    taken: Vec<Reservation>,
}

impl Reserving {
    fn downstream(&self) -> &Downstream {
        &self.appliance.downstream
    }
}

impl Openings for Reserving {
    fn steps(&self, workflow: &str) -> u32 {
        self.appliance.config.workflows.get(workflow).map_or(0, |workflow| workflow.steps.len() as u32)
    }

    fn repeat(&self, workflow: &str, step: u32) -> Repeat {
        let workflow = self.appliance.config.workflows.get(workflow);
        workflow.and_then(|workflow| workflow.steps.get(step as usize)).map_or(Repeat::Never, |step| step.repeat)
    }

    fn room(&self, workflow: &str, step: u32) -> usize {
        self.downstream().room(workflow, step as usize).rows
    }

    fn take(&mut self, workflow: &str, step: u32, rows: usize) {
        for _ in 0..rows {
            let reservation = self.downstream().reserve(workflow, step as usize);
            self.taken.push(reservation);
        }
    }
}

/// Rows are claimed and reservations taken in the same order.
fn in_order_of_reservation(claimed: Vec<ClaimedRow>, taken: Vec<Reservation>) -> Vec<Job> {
    debug_assert_eq!(claimed.len(), taken.len());
    let job = |(claimed, reservation)| Job { claimed, reservation };
    claimed.into_iter().zip(taken).map(job).collect()
}
