//! When a batch will be done under today's limits: arithmetic on what stands in its way, without any I/O.
//!
//! What bounds a batch is one of few things: the grants of its client, run by run; the rate or the closed gate of a
//! dependency that its rows have to call; its extraction. Each is looked at as if it were alone, and the latest end
//! counts. Older batches of the same client go first, and other clients have their turn at every dependency as well.
//! How fast an API answers is not known ahead, so a batch that waits for answers more than for limits ends later.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::waiting::shuts;
use crate::{downstream::GateReason, model::Timestamp};

/// Rows that extraction writes in a second, carefully guessed.
const EXTRACTED_PER_SECOND: f64 = 20_000.0;
/// What would end later than this is not worth a date.
const LONGEST: Duration = Duration::from_secs(3_650 * 24 * 3_600);

/// When a batch will be done, and what bounds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Estimate {
    /// When its last row will have ended.
    pub finished_at: Timestamp,
    /// From now until then.
    pub seconds: u64,
    /// What it is that takes so long, in one sentence.
    pub reason: String,
}

/// How fast everything goes, and everything that waits.
#[derive(Debug, Clone)]
pub struct Scene {
    /// When this was so.
    pub now: Timestamp,
    /// Between two dispatch runs.
    pub every: Duration,
    /// The last one.
    pub last_run: Option<Timestamp>,
    /// By name.
    pub dependencies: BTreeMap<String, Pace>,
    /// Of each version of a workflow: how often one row calls each dependency.
    pub calls: BTreeMap<i64, BTreeMap<String, u32>>,
    /// Every unfinished batch.
    pub queue: Vec<Queued>,
}

/// How fast a dependency may be called.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Calls a second.
    pub per_second: f64,
    /// Until when its gate is closed, and why.
    pub closed: Option<(Timestamp, GateReason)>,
}

/// A batch that waits or is being worked.
#[derive(Debug, Clone)]
pub struct Queued {
    /// Its key in the database: older ones have smaller ones.
    pub batch: i64,
    /// Its client.
    pub client: i64,
    /// The version of the workflow that its rows go through.
    pub workflow_version: i64,
    /// Rows that nobody has claimed.
    pub pending: u64,
    /// Rows under way.
    pub processing: u64,
    /// Rows that are not in the work table yet.
    pub unextracted: u64,
    /// Whether it or its client is paused.
    pub is_paused: bool,
    /// What a run grants its client.
    pub limit: u32,
    /// What is left of its client's last grant.
    pub granted: u32,
}

impl Queued {
    fn rows(&self) -> u64 {
        self.pending + self.processing
    }
}

/// An end, in seconds from now, and what it is bound by.
struct Bound {
    ends_after: f64,
    /// So much of it is no work.
    waits: f64,
    reason: String,
}

impl Scene {
    /// When this batch will be done, of which no row moves before `not_before`; `None` where nobody can say, because
    /// it is paused, or granted nothing.
    pub fn estimate(&self, batch: &Queued, not_before: Option<Timestamp>) -> Option<Estimate> {
        if batch.is_paused || (batch.limit == 0 && batch.granted == 0 && batch.pending > 0) {
            return None;
        }
        let is_elder = |other: &&Queued| other.client == batch.client && other.batch < batch.batch;
        let elders = || self.moving().filter(is_elder);
        let rows_ahead: u64 = elders().map(Queued::rows).sum();
        let extraction = self.extraction(batch);
        let waits = not_before.map_or(0.0, |at| seconds(at.since(self.now)));
        let start = extraction.max(waits);
        let mut calls = self.calls_of(batch.workflow_version, batch.rows())?;
        elders().try_for_each(|elder| self.add(&mut calls, elder, elder.rows()))?;

        let granted = self.grants(batch, elders().map(|elder| elder.pending).sum(), start)?;
        let alone = self.slowest(&calls, start).map_or(0.0, |bound| bound.ends_after).max(granted.ends_after);
        self.add_neighbours(&mut calls, batch, batch.rows() + rows_ahead, alone)?;
        let called = self.slowest(&calls, start);

        // A run that is waited for at the beginning is not what takes so long where the calls take longer.
        let calls_take = called.as_ref().map_or(0.0, |bound| bound.ends_after - start);
        let mut last = match called {
            Some(called) if called.ends_after > granted.ends_after => called,
            Some(called) if calls_take > granted.waits => Bound { ends_after: granted.ends_after, ..called },
            _ => granted,
        };
        if rows_ahead > 0 {
            last.reason.push_str(&format!("; {rows_ahead} rows of older batches go first"));
        }
        if start > last.ends_after - start {
            last.reason = match not_before {
                Some(at) if waits >= extraction => format!("its rows are tried again from {} on", at.told(self.now)),
                _ => "its rows still have to be extracted".to_owned(),
            };
        }
        self.told(last)
    }

    fn told(&self, last: Bound) -> Option<Estimate> {
        let seconds = last.ends_after.ceil();
        if seconds > LONGEST.as_secs_f64() {
            return None;
        }
        let seconds = seconds as u64;
        Some(Estimate { finished_at: self.now.after(Duration::from_secs(seconds)), seconds, reason: last.reason })
    }

    /// Batches of which rows can be claimed: none of a workflow is of which something is not configured.
    fn moving(&self) -> impl Iterator<Item = &Queued> {
        self.queue.iter().filter(|batch| !batch.is_paused && self.calls.contains_key(&batch.workflow_version))
    }

    /// Seconds until the batch is in the work table: one after the other, the oldest first, paused ones too.
    fn extraction(&self, batch: &Queued) -> f64 {
        if batch.unextracted == 0 {
            return 0.0;
        }
        let before = self.queue.iter().filter(|other| other.batch < batch.batch).map(|other| other.unextracted);
        (before.sum::<u64>() + batch.unextracted) as f64 / EXTRACTED_PER_SECOND
    }

    /// Calls of so many rows, by dependency; `None` for a workflow of which something is not configured.
    fn calls_of(&self, workflow_version: i64, rows: u64) -> Option<BTreeMap<String, f64>> {
        let a_row = self.calls.get(&workflow_version)?;
        Some(a_row.iter().map(|(name, calls)| (name.clone(), f64::from(*calls) * rows as f64)).collect())
    }

    fn add(&self, calls: &mut BTreeMap<String, f64>, of: &Queued, rows: u64) -> Option<()> {
        for (name, more) in self.calls_of(of.workflow_version, rows)? {
            *calls.entry(name).or_default() += more;
        }
        Some(())
    }

    /// Clients are worked in turn, row by row: while this one's rows go by, every other client has as many of its own
    /// worked, if it has them and is granted them.
    fn add_neighbours(&self, calls: &mut BTreeMap<String, f64>, batch: &Queued, rows: u64, alone: f64) -> Option<()> {
        let runs = (alone / self.every_seconds()).floor() + 1.0;
        let mut left: BTreeMap<i64, u64> = BTreeMap::new();
        for other in self.moving().filter(|other| other.client != batch.client) {
            let granted = f64::from(other.granted) + f64::from(other.limit) * runs;
            let left = left.entry(other.client).or_insert_with(|| rows.min(granted as u64));
            let share = other.rows().min(*left);
            *left -= share;
            self.add(calls, other, share)?;
        }
        Some(())
    }

    /// The dependency that is through last with these calls, if they begin at `start`.
    fn slowest(&self, calls: &BTreeMap<String, f64>, start: f64) -> Option<Bound> {
        let bound = |(name, calls): (&String, &f64)| {
            let pace = self.dependencies.get(name).filter(|_| *calls > 0.0)?;
            let takes = calls / pace.per_second;
            let closed = pace.closed.map(|(until, why)| (seconds(until.since(self.now)), until, why));
            let opens = closed.map_or(0.0, |(opens, ..)| opens);
            let reason = match closed {
                Some((opens, until, why)) if opens > start.max(takes) => {
                    format!("{name} {}, next try {}", shuts(why), until.told(self.now))
                }
                _ => format!("{name} allows {} a second", counted(pace.per_second, "call")),
            };
            Some(Bound { ends_after: start.max(opens) + takes, waits: opens, reason })
        };
        calls.iter().filter_map(bound).max_by(|a, b| a.ends_after.total_cmp(&b.ends_after))
    }

    /// When the client's grants will have been enough for the batch and for its elders.
    fn grants(&self, batch: &Queued, pending_ahead: u64, start: f64) -> Option<Bound> {
        let every = self.every_seconds();
        let mut next = self.last_run.map_or(every, |at| seconds(at.after(self.every).since(self.now)));
        let mut at_hand = u64::from(batch.granted);
        if start > next {
            // What was granted before there is a row to claim is gone with the next run.
            next += ((start - next) / every).ceil() * every;
            at_hand = 0;
        }
        let wanted = (batch.pending + pending_ahead).saturating_sub(at_hand);
        let every_told = told(self.every);
        if wanted == 0 {
            return Some(Bound { ends_after: start, waits: 0.0, reason: "its rows are granted already".to_owned() });
        }
        let limit = u64::from(batch.limit);
        let runs = wanted.checked_next_multiple_of(limit)? / limit;
        let in_the_last = (wanted - (runs - 1) * limit).min(batch.pending);
        let last_run = next + (runs - 1) as f64 * every;
        let calls = self.calls_of(batch.workflow_version, in_the_last)?;
        let work = calls.iter().filter_map(|(name, calls)| Some(calls / self.dependencies.get(name)?.per_second));
        let reason = match runs {
            1 => format!("the next dispatch run has to grant its rows, one comes every {every_told}"),
            _ => format!("client limit: {} a run, a run every {every_told}", counted(batch.limit.into(), "row")),
        };
        let ends_after = last_run.max(start) + work.fold(0.0, f64::max);
        Some(Bound { ends_after, waits: (last_run - start).max(0.0), reason })
    }

    fn every_seconds(&self) -> f64 {
        self.every.as_secs_f64().max(0.001)
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// `1 call`, `2.5 calls`.
fn counted(number: f64, noun: &str) -> String {
    if number == 1.0 { format!("{number} {noun}") } else { format!("{number} {noun}s") }
}

/// A time between runs, for a person: `60 s`.
pub fn told(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_786_000_000_000);

    fn batch(batch: i64, client: i64, pending: u64) -> Queued {
        let (limit, granted) = (1_000_000, 1_000_000);
        Queued {
            batch,
            client,
            workflow_version: 1,
            pending,
            processing: 0,
            unextracted: 0,
            is_paused: false,
            limit,
            granted,
        }
    }

    fn scene(queue: &[Queued]) -> Scene {
        let open = |per_second| Pace { per_second, closed: None };
        let calls = BTreeMap::from([("addresses".to_owned(), 2), ("invites".to_owned(), 1)]);
        Scene {
            now: NOW,
            every: Duration::from_secs(60),
            last_run: Some(NOW.before(Duration::from_secs(20))),
            dependencies: BTreeMap::from([("addresses".to_owned(), open(50.0)), ("invites".to_owned(), open(20.0))]),
            calls: BTreeMap::from([(1, calls)]),
            queue: queue.to_vec(),
        }
    }

    fn of(scene: &Scene, batch: &Queued) -> (u64, String) {
        let estimate = scene.estimate(batch, None).expect("an estimate");
        assert_eq!(estimate.finished_at, NOW.after(Duration::from_secs(estimate.seconds)));
        (estimate.seconds, estimate.reason)
    }

    #[test]
    fn the_slowest_steps_dependency_bounds_a_batch_with_grants_enough() {
        let mine = batch(1, 1, 1_000);
        let mut scene = scene(std::slice::from_ref(&mine));
        assert_eq!(of(&scene, &mine), (50, "invites allows 20 calls a second".to_owned()));
        // Two steps share the addresses: at 30 a second only 15 rows are through.
        scene.dependencies.insert("addresses".to_owned(), Pace { per_second: 30.0, closed: None });
        assert_eq!(of(&scene, &mine), (67, "addresses allows 30 calls a second".to_owned()));
    }

    #[test]
    fn a_clients_grants_bound_it_run_by_run() {
        let mine = Queued { limit: 500, granted: 100, ..batch(1, 1, 1_200) };
        let scene = scene(std::slice::from_ref(&mine));
        // 100 now, 500 in 40 s, 500 in 100 s, and the last 100 in 160 s, which take 5 s more.
        assert_eq!(of(&scene, &mine), (165, "client limit: 500 rows a run, a run every 60 s".to_owned()));
        let once = Queued { pending: 150, ..mine.clone() };
        let reason = "the next dispatch run has to grant its rows, one comes every 60 s";
        assert_eq!(of(&scene, &once), (43, reason.to_owned()));
        let mut slow = scene.clone();
        slow.dependencies.insert("invites".to_owned(), Pace { per_second: 10.0, closed: None });
        let more = Queued { pending: 600, ..mine.clone() };
        assert_eq!(of(&slow, &more), (90, "invites allows 10 calls a second".to_owned()), "the calls take longer");
        let nothing = Queued { limit: 0, granted: 0, ..mine.clone() };
        assert_eq!(scene.estimate(&nothing, None), None);
        let late = Scene { last_run: Some(NOW.before(Duration::from_secs(600))), ..scene.clone() };
        assert_eq!(of(&late, &mine).0, 125, "a run that is due comes now");
        let never = Scene { last_run: None, ..scene };
        assert_eq!(of(&never, &mine).0, 185);
    }

    #[test]
    fn older_batches_of_the_client_go_first_and_younger_ones_do_not() {
        let (elder, mine, younger) = (batch(1, 1, 2_000), batch(2, 1, 1_000), batch(3, 1, 9_000));
        let full = scene(&[elder.clone(), mine.clone(), younger.clone()]);
        let reason = "invites allows 20 calls a second; 2000 rows of older batches go first";
        assert_eq!(of(&full, &mine), (150, reason.to_owned()));
        assert_eq!(of(&full, &elder).0, 100);
        let gone = Queued { workflow_version: 2, ..elder.clone() };
        assert_eq!(of(&scene(&[gone.clone(), mine.clone()]), &mine).0, 50, "nobody works what nobody knows");
        assert_eq!(full.estimate(&gone, None), None);
        let paused = Queued { is_paused: true, ..elder };
        assert_eq!(of(&scene(&[paused.clone(), mine.clone()]), &mine).0, 50);
        assert_eq!(full.estimate(&paused, None), None);
    }

    #[test]
    fn other_clients_have_their_turn_as_far_as_they_are_granted_rows() {
        let mine = batch(9, 1, 1_000);
        let with = |other: Queued| of(&scene(&[mine.clone(), other]), &mine).0;
        assert_eq!(with(batch(1, 2, 400)), 70, "all of a small one");
        assert_eq!(with(batch(10, 2, 90_000)), 100, "as many as ours of a large one, whoever came first");
        assert_eq!(with(Queued { limit: 100, granted: 0, ..batch(1, 2, 90_000) }), 55);
        assert_eq!(with(Queued { is_paused: true, ..batch(1, 2, 90_000) }), 50);
    }

    #[test]
    fn a_closed_gate_is_waited_for() {
        let mine = batch(1, 1, 100);
        let mut scene = scene(std::slice::from_ref(&mine));
        let closed = Some((NOW.after(Duration::from_secs(90)), GateReason::RateLimited));
        scene.dependencies.insert("addresses".to_owned(), Pace { per_second: 50.0, closed });
        assert_eq!(of(&scene, &mine), (94, "addresses answers 429, next try 07:08:10 UTC".to_owned()));
    }

    #[test]
    fn extraction_and_waits_for_another_try_are_told_where_they_take_longest() {
        let fast = |queue: &[Queued]| {
            let mut scene = scene(queue);
            for pace in scene.dependencies.values_mut() {
                pace.per_second = 1_000_000.0;
            }
            scene
        };
        let (elder, mine) = (Queued { unextracted: 100_000, ..batch(1, 2, 100_000) }, batch(2, 1, 20_000));
        let mine = Queued { unextracted: 20_000, ..mine };
        let (seconds, reason) = of(&fast(&[elder, mine.clone()]), &mine);
        assert_eq!((seconds, reason.as_str()), (7, "its rows still have to be extracted"));
        let waiting = batch(1, 1, 2);
        let later = NOW.after(Duration::from_secs(30));
        let estimate = fast(std::slice::from_ref(&waiting)).estimate(&waiting, Some(later)).expect("an estimate");
        assert_eq!((estimate.seconds, estimate.reason.as_str()), (31, "its rows are tried again from 07:07:10 UTC on"));
    }

    #[test]
    fn more_work_never_ends_sooner_and_more_speed_never_later() {
        let mut last = 0;
        for rows in [1, 10, 100, 500, 501, 1_000, 50_000, 1_000_000] {
            let mine = Queued { limit: 500, granted: 7, unextracted: rows, ..batch(5, 1, rows) };
            let queue = [batch(1, 1, 30), mine.clone(), batch(2, 2, 10_000)];
            let slow = of(&scene(&queue), &mine).0;
            let mut faster = scene(&queue);
            faster.dependencies.values_mut().for_each(|pace| pace.per_second *= 2.0);
            assert!(slow >= last && of(&faster, &mine).0 <= slow, "{rows} rows take {slow} s");
            last = slow;
        }
    }
}
