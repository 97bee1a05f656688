//! The feeder: claims rows just in time, as many as workers and dependencies can take.
//!
//! Where rows flow fast some are claimed ahead, so that no worker waits for a claim's commit: no more than are completed within
//! [`AHEAD`], and what a pause or a crash finds under way is never more than [`ROWS_PER_THREAD`] for each worker.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    appliance::Appliance,
    crash_point::crash_point,
    downstream::{Reservation, Way},
    heartbeat,
    model::workflow::Repeat,
    store::{
        StoreError,
        claims::{self, Claimant, ClaimedRow, Openings},
    },
    work::{
        pool::{Job, Pool, ROWS_PER_THREAD},
        workflows::Kept,
    },
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
    let mut openings = Reserving { appliance: appliance.clone(), taken: Vec::new(), workflows: RefCell::default() };
    let after = *last_client;
    let (claimed, last, openings) = appliance.store.write(move |tx| {
        let (claimed, last) = claims::claim_rows(tx, claimant, limit, after, &mut openings)?;
        Ok((claimed, last, openings))
    })?;
    *last_client = last;
    let rows = claimed.len();
    let brought = bring(appliance, &openings.workflows.into_inner());
    if rows > 0 {
        crash_point("rows.claimed");
    }
    pool.begin(appliance, in_order_of_reservation(claimed, openings.taken));
    Ok(rows + brought)
}

/// Reads versions that the next claim needs; how many could be.
fn bring(appliance: &Appliance, asked_for: &BTreeMap<i64, Option<Arc<Kept>>>) -> usize {
    let absent = asked_for.iter().filter(|(_, kept)| kept.is_none());
    let bring = |(version, _): &(&i64, &Option<Arc<Kept>>)| match appliance.workflow(**version) {
        Ok(_) => true,
        Err(error) => {
            let version = **version;
            tracing::error!(event = "workflow.unreadable", version, %error, "a workflow that batches keep cannot be read");
            false
        }
    };
    absent.filter(bring).count()
}

/// What the dependencies can take, asked and reserved while rows are being claimed. If the claim does not commit, the
/// reservations are given back by being dropped.
struct Reserving {
    appliance: Arc<Appliance>,
    taken: Vec<Reservation>,
    /// Versions that were asked for. Those that are not at hand are read when the writer is free again.
    workflows: RefCell<BTreeMap<i64, Option<Arc<Kept>>>>,
}

impl Reserving {
    fn kept(&self, version: i64) -> Option<Arc<Kept>> {
        let look = || self.appliance.workflows.at_hand(version);
        self.workflows.borrow_mut().entry(version).or_insert_with(look).clone()
    }

    fn way(&self, version: i64) -> Option<Way> {
        self.kept(version)?.way().ok().cloned()
    }
}

impl Openings for Reserving {
    fn steps(&self, version: i64) -> u32 {
        let kept = self.kept(version).filter(|kept| kept.way().is_ok());
        kept.map_or(0, |kept| kept.workflow.steps.len() as u32)
    }

    fn repeat(&self, version: i64, step: u32) -> Repeat {
        let kept = self.kept(version);
        kept.and_then(|kept| Some(kept.workflow.steps.get(step as usize)?.repeat)).unwrap_or(Repeat::Never)
    }

    fn room(&self, version: i64, step: u32) -> usize {
        self.way(version).map_or(0, |way| way.room(step as usize).rows)
    }

    fn take(&mut self, version: i64, step: u32, rows: usize) {
        let way = if rows > 0 { self.way(version) } else { None };
        self.taken.extend(way.iter().flat_map(|way| (0..rows).map(|_| way.reserve(step as usize))));
    }
}

/// Rows are claimed and reservations taken in the same order.
fn in_order_of_reservation(claimed: Vec<ClaimedRow>, taken: Vec<Reservation>) -> Vec<Job> {
    debug_assert_eq!(claimed.len(), taken.len());
    let job = |(claimed, reservation)| Job { claimed, reservation };
    claimed.into_iter().zip(taken).map(job).collect()
}
