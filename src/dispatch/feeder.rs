//! The feeder: claims rows just in time, as many as the dependencies can take and may be under way. Which ones, the ready
//! index says ([`super::ready`]), and `hearing` keeps that up to date.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    brakes::Brakes,
    hearing::{Hearing, Versions},
    ready::{Index, Openings},
};
use crate::{
    appliance::Appliance,
    crash_point::crash_point,
    downstream::{Reservation, Way},
    heartbeat,
    model::{Step, workflow::Repeat},
    store::{
        StoreError,
        claims::{self, Claimant, Taken, Wanted},
        ready, widths,
    },
    work::{
        fitting::{Fitting, Pile, fitting},
        pool::{Job, Pool},
        workflows::Kept,
    },
};

/// How long the feeder sleeps when nobody rings: changes made by commands ring no bell.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);
/// And how long at least after it found nothing: every call that leaves rings, and each look costs a read.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
/// The pause after a fault of the database.
const PAUSE_AFTER_FAULT: Duration = Duration::from_secs(1);

/// Claims and hands out rows until the appliance closes.
pub fn feed(appliance: &Arc<Appliance>, pool: &Pool) {
    let (mut hearing, mut brakes) = (None, Brakes::default());
    while !appliance.closing.is_closed() {
        heartbeat::beat();
        let room = room(pool);
        let claimed = if room == 0 { Ok(0) } else { claim(appliance, pool, room, &mut hearing, &mut brakes) };
        match claimed {
            Ok(0) => {
                appliance.closing.wait(SHORTEST_SLEEP);
                let quiet = hearing.as_ref().map(|hearing| hearing.quiet_for(appliance.clock.now(), LONGEST_SLEEP));
                appliance
                    .work_bell
                    .wait(quiet.filter(|_| room > 0 && !brakes.is_without_room()).unwrap_or(LONGEST_SLEEP));
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(event = "claims.failed", %error, "rows could not be claimed");
                // What was planned was not claimed: what is there is found out anew.
                hearing = None;
                appliance.closing.wait(PAUSE_AFTER_FAULT);
            }
        }
    }
}

/// How many rows to claim at most: the dependencies say how many of them can start.
fn room(pool: &Pool) -> usize {
    pool.most().saturating_sub(pool.under_way())
}

/// Brings the index up to date and claims what can start. Says how much there was to do.
fn claim(
    appliance: &Arc<Appliance>,
    pool: &Pool,
    limit: usize,
    hearing: &mut Option<Hearing>,
    brakes: &mut Brakes,
) -> Result<usize, StoreError> {
    let (store, known) = (&appliance.store, Known(appliance));
    let hearing = match hearing {
        Some(hearing) => hearing,
        None => hearing.insert(Hearing::begin(store, &known)?),
    };
    hearing.hear(store, &known)?;
    hearing.look(store, &known, Instant::now())?;
    for ((client, version, step), rows) in appliance.unspent.take() {
        hearing.index.refund(client, version, step, rows);
    }
    let_go(appliance, &mut hearing.index);
    if !brakes.look(appliance, &mut hearing.index)? {
        return Ok(0);
    }
    let mut openings = Reserving { appliance, reserved: HashMap::new(), workflows: RefCell::default() };
    let mut wanted = hearing.index.plan(limit, appliance.clock.now(), &mut openings);
    if wanted.is_empty() {
        return Ok(openings.bring());
    }
    wanted.iter_mut().for_each(|wanted| wanted.has_key = openings.has_key(wanted));
    let fitting = fitting_of(appliance, &wanted, &openings)?;
    let wishes: Vec<_> =
        wanted.iter().zip(&fitting).map(|(it, fits)| Wanted { rows: fits.rows, ..it.clone() }).collect();
    let expires_at = appliance.clock.now().after(appliance.config.workers.claim_ttl);
    let claimant = Claimant { owner: appliance.owner, expires_at };
    let (claimed, forget) = (wishes.clone(), hearing.to_forget());
    let taken = store.write(move |tx| {
        if let Some(seen) = forget {
            ready::forget_changes(tx, seen)?;
        }
        claims::claim(tx, claimant, &claimed)
    })?;
    for (wanted, taken) in wanted.iter().zip(&taken) {
        let short = wanted.rows.saturating_sub(u32::try_from(taken.rows.len()).unwrap_or(u32::MAX));
        if let (1.., Some(client)) = (short, hearing.index.client_of(wanted.batch)) {
            hearing.index.refund(client, wanted.version, wanted.step, short);
        }
    }
    let left: Vec<_> = taken.iter().map(|taken| taken.left).collect();
    if taken.iter().any(|taken| !taken.rows.is_empty()) {
        crash_point("rows.claimed");
    }
    let jobs = openings.jobs(&wanted, taken);
    let rows = jobs.len();
    pool.begin(jobs);
    hearing.taken(store, &known, &wishes, &left)?;
    let held = hold(&mut hearing.index, &wanted, &fitting, &openings);
    if held > 0 {
        appliance.under_way.set_without_room(hearing.index.held());
    }
    Ok(rows + held + openings.bring())
}

/// How many rows of what is wanted there is memory for.
fn fitting_of(appliance: &Appliance, wanted: &[Wanted], openings: &Reserving<'_>) -> Result<Vec<Fitting>, StoreError> {
    let (most, left) = (appliance.under_way.room().most(), appliance.under_way.left());
    let piles = appliance.store.read(|connection| {
        let pile = |wanted: &Wanted| {
            let widths = widths::of(connection, wanted, most)?;
            Ok(Pile { dependency: openings.dependency(wanted), widths })
        };
        wanted.iter().map(pile).collect::<Result<Vec<_>, StoreError>>()
    })?;
    Ok(fitting(&piles, left))
}

/// Gives piles their turns again whose next row has room by now.
fn let_go(appliance: &Appliance, index: &mut Index) {
    let widest = index.widest_held();
    if widest.is_empty() {
        return;
    }
    let left = appliance.under_way.left();
    for (dependency, _) in widest.iter().filter(|(dependency, width)| left.fits(dependency, **width)) {
        index.let_go(dependency);
    }
    appliance.under_way.set_without_room(index.held());
}

/// Takes their turns from the piles whose next row has no room; how many those are.
fn hold(index: &mut Index, wanted: &[Wanted], fitting: &[Fitting], openings: &Reserving<'_>) -> usize {
    let mut held = 0;
    for (wanted, fitting) in wanted.iter().zip(fitting) {
        if let Some(width) = fitting.too_wide {
            index.hold(wanted, &openings.dependency(wanted), width);
            held += 1;
        }
    }
    held
}

/// The workflows that batches keep, for the index.
struct Known<'a>(&'a Appliance);

impl Versions for Known<'_> {
    fn dependencies(&self, version: i64) -> Option<Vec<String>> {
        let kept = read(self.0, version)?;
        let dependencies = || kept.workflow.steps.iter().map(|step| step.dependency.clone()).collect();
        kept.way().is_ok().then(dependencies)
    }
}

fn read(appliance: &Appliance, version: i64) -> Option<Arc<Kept>> {
    let unreadable = |error: &_| {
        tracing::error!(event = "workflow.unreadable", version, %error, "a workflow that batches keep cannot be read");
    };
    appliance.workflow(version).inspect_err(unreadable).ok()
}

/// What the dependencies can take, asked and reserved while it is planned what to claim. Where less is claimed than was
/// planned, and where the claim does not commit, reservations are given back by being dropped.
struct Reserving<'a> {
    appliance: &'a Appliance,
    /// By version and step: those of rows that are at the same one are alike.
    reserved: HashMap<(i64, u32), Vec<Reservation>>,
    /// Versions that were asked for. Those that are not at hand are read when nobody waits for the plan.
    workflows: RefCell<BTreeMap<i64, Option<Arc<Kept>>>>,
}

impl Reserving<'_> {
    fn kept(&self, version: i64) -> Option<Arc<Kept>> {
        let look = || self.appliance.workflows.at_hand(version);
        self.workflows.borrow_mut().entry(version).or_insert_with(look).clone()
    }

    fn way(&self, version: i64) -> Option<Way> {
        self.kept(version)?.way().ok().cloned()
    }

    /// Whether the claim is the note of these rows' next request.
    fn has_key(&self, wanted: &Wanted) -> bool {
        self.step(wanted, |step| step.repeat == Repeat::IdempotencyKey).unwrap_or_default()
    }

    /// Whom these rows call next.
    fn dependency(&self, wanted: &Wanted) -> String {
        self.step(wanted, |step| step.dependency.clone()).unwrap_or_default()
    }

    fn step<T>(&self, wanted: &Wanted, of: impl FnOnce(&Step) -> T) -> Option<T> {
        let kept = self.kept(wanted.version)?;
        kept.workflow.steps.get(wanted.step as usize).map(of)
    }

    /// Reads versions that the next plan needs; how many could be.
    fn bring(&self) -> usize {
        let asked_for = self.workflows.borrow();
        let absent = asked_for.iter().filter(|(_, kept)| kept.is_none());
        absent.filter(|(version, _)| read(self.appliance, **version).is_some()).count()
    }

    /// Rows with their reservations; one of each pile in turn, as they were planned.
    fn jobs(&mut self, wanted: &[Wanted], taken: Vec<Taken>) -> Vec<Job> {
        let mut piles: VecDeque<_> =
            wanted.iter().zip(taken).map(|(wanted, taken)| (wanted, taken.rows.into_iter())).collect();
        let mut jobs = Vec::new();
        while let Some((wanted, mut rows)) = piles.pop_front() {
            let Some(claimed) = rows.next() else { continue };
            let reserved = self.reserved.get_mut(&(wanted.version, wanted.step)).and_then(Vec::pop);
            debug_assert!(reserved.is_some(), "no more is claimed than was reserved");
            jobs.extend(reserved.map(|reservation| Job { claimed, reservation }));
            piles.push_back((wanted, rows));
        }
        jobs
    }
}

impl Openings for Reserving<'_> {
    fn take(&mut self, version: i64, step: u32, lying: impl Fn(usize) -> usize) -> bool {
        let Some(way) = self.way(version).filter(|way| way.room(step as usize, lying).rows > 0) else { return false };
        self.reserved.entry((version, step)).or_default().push(way.reserve(step as usize));
        true
    }
}
