//! When a batch will be done under today's limits: arithmetic on what stands in its way, without any I/O.
//!
//! What bounds a batch is one of few things: the grants of its client, run by run; what a dependency that its rows have to
//! call lets through ([`Pace`]), or its closed gate; the requests that may be under way at all; its extraction; a row that
//! waits for another try. Each is looked at as if it were alone, and the latest end counts. Behind it the last row has
//! still its way to go. Older batches of the same client go first, and other clients have their turn at every dependency as
//! well. How an API answers is known as soon as it was called, and not before.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

pub use super::pace::Pace;
use super::{
    crowd::{Crowd, Rows},
    pace::{self, counted},
    waiting::shuts,
};
use crate::model::{Timestamp, backoff};

/// Rows that extraction writes in a second, carefully guessed.
const EXTRACTED_PER_SECOND: f64 = 20_000.0;
/// What a row counts for that is under way: nobody knows how far it is.
const UNDER_WAY: f64 = 0.5;
/// Where so many rows have to be expected to fail once more, the last of them waits for its next try at the end.
const ONE_FAILS: f64 = 0.5;
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
    /// Of each version of a workflow: whom each of its steps calls.
    pub steps: BTreeMap<i64, Vec<String>>,
    /// Requests that may be under way at once, over all dependencies.
    pub under_way: usize,
    /// Every unfinished batch.
    pub crowd: Crowd,
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
    fn rows(&self) -> f64 {
        Rows { pending: self.pending, processing: self.processing }.counted()
    }
}

impl Rows {
    /// What they count for.
    fn counted(self) -> f64 {
        self.pending as f64 + self.processing as f64 * UNDER_WAY
    }
}

/// How the rows of a batch stand that nobody has claimed. `Default`: none was begun.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// No row moves before.
    pub not_before: Option<Timestamp>,
    /// A row waits until then for its next try, and none for longer.
    pub last_due: Option<Timestamp>,
    /// Rows that were begun and wait, by their step; of many as they stand to each other.
    pub waiting: Vec<u64>,
    /// Rows that were not begun. The others are those that wait.
    pub unstarted: u64,
    /// Rows that go on without a grant, as far as they were counted.
    pub prepaid: u64,
}

impl Standing {
    /// Pending rows that were not begun.
    fn unstarted(&self, batch: &Queued) -> u64 {
        let some_wait = self.waiting.iter().any(|rows| *rows > 0);
        if some_wait { self.unstarted.min(batch.pending) } else { batch.pending }
    }

    /// Pending rows by the step at which they go on.
    fn rows_by_step(&self, batch: &Queued, steps: usize) -> Vec<f64> {
        let mut rows = vec![0.0; steps.max(1)];
        let (counted, unstarted): (u64, u64) = (self.waiting.iter().sum(), self.unstarted(batch));
        rows[0] = unstarted as f64;
        for (rows, waiting) in rows.iter_mut().zip(&self.waiting) {
            *rows += (batch.pending - unstarted) as f64 * *waiting as f64 / counted.max(1) as f64;
        }
        rows
    }
}

/// Calls by dependency.
type Calls = BTreeMap<String, f64>;

/// An end, in seconds from now, and what it is bound by.
struct Bound {
    ends_after: f64,
    /// So much of it is no work.
    waits: f64,
    reason: String,
}

impl Scene {
    /// When this batch will be done, whose rows stand so; `None` where nobody can say, because it is paused, or granted
    /// nothing.
    pub fn estimate(&self, batch: &Queued, standing: &Standing) -> Option<Estimate> {
        let own = self.steps.get(&batch.workflow_version)?;
        let mine = Mine { scene: self, batch, standing, steps: own, rows: standing.rows_by_step(batch, own.len()) };
        mine.can_move().then(|| mine.estimate()).flatten()
    }

    fn told(&self, last: Bound) -> Option<Estimate> {
        let seconds = last.ends_after.ceil();
        if seconds > LONGEST.as_secs_f64() {
            return None;
        }
        let seconds = seconds as u64;
        Some(Estimate { finished_at: self.now.after(Duration::from_secs(seconds)), seconds, reason: last.reason })
    }

    /// Seconds until the batch is in the work table: one after the other, the oldest first, paused ones too.
    fn extraction(&self, batch: &Queued) -> f64 {
        if batch.unextracted == 0 {
            return 0.0;
        }
        (self.crowd.unextracted_before(batch.batch) + batch.unextracted) as f64 / EXTRACTED_PER_SECOND
    }

    /// When a gate opens, in seconds from now; `None` where it is not closed.
    fn opens(&self, dependency: &str) -> Option<f64> {
        let (until, _) = self.dependencies.get(dependency)?.closed?;
        Some(seconds(until.since(self.now)))
    }

    /// Adds the calls of so many rows, from a step on.
    fn add(&self, calls: &mut Calls, steps: &[String], rows: f64) {
        for name in steps {
            let tries = self.dependencies.get(name).map_or(1.0, Pace::tries);
            *calls.entry(name.clone()).or_default() += rows * tries;
        }
    }

    /// Seconds that one row takes with nothing but answers in its way.
    fn way(&self, steps: &[String]) -> f64 {
        steps.iter().filter_map(|name| self.dependencies.get(name)).map(Pace::step_takes).sum()
    }

    fn every_seconds(&self) -> f64 {
        self.every.as_secs_f64().max(0.001)
    }
}

/// One batch in its scene.
struct Mine<'s> {
    scene: &'s Scene,
    batch: &'s Queued,
    standing: &'s Standing,
    steps: &'s [String],
    /// Pending rows by the step at which they go on.
    rows: Vec<f64>,
}

impl Mine<'_> {
    fn can_move(&self) -> bool {
        let Queued { is_paused, limit, granted, pending, .. } = *self.batch;
        !is_paused && (limit > 0 || granted > 0 || pending <= self.standing.prepaid)
    }

    fn estimate(&self) -> Option<Estimate> {
        let scene = self.scene;
        let elders: Vec<_> = self.elders().collect();
        let ahead = elders.iter().fold(Rows::default(), |sum, (_, rows)| sum + *rows);
        let rows_ahead = ahead.pending + ahead.processing;
        let extraction = scene.extraction(self.batch);
        let waits = self.standing.not_before.map_or(0.0, |at| seconds(at.since(scene.now)));
        let start = extraction.max(waits);
        let mut calls = self.calls();
        for (steps, rows) in &elders {
            scene.add(&mut calls, steps, rows.counted());
        }

        let granted = self.grants(ahead.pending, start)?;
        let alone = self.slowest(&calls, start).map_or(0.0, |bound| bound.ends_after).max(granted.ends_after);
        self.add_neighbours(&mut calls, self.batch.rows() + ahead.counted(), alone);
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
            last.reason = match self.standing.not_before {
                Some(at) if waits >= extraction => {
                    format!("its rows are tried again from {} on", at.told_ahead(scene.now))
                }
                _ => "its rows still have to be extracted".to_owned(),
            };
        }
        last.ends_after += self.last_failure_waits();
        scene.told(self.tried_again(last))
    }

    /// The rows of its client's older batches with their steps, unless a gate keeps them that is none of its own.
    fn elders(&self) -> impl Iterator<Item = (&[String], Rows)> {
        let elders = self.scene.crowd.elders(self.batch.client, self.batch.batch);
        elders.filter_map(|(version, rows)| Some((self.steps_here(version)?, rows)))
    }

    /// The steps of a version of which rows can be claimed: everything of it is configured, and no gate keeps its rows that
    /// this one's do not pass.
    fn steps_here(&self, version: i64) -> Option<&[String]> {
        let steps = self.scene.steps.get(&version)?;
        let is_elsewhere = steps.iter().any(|name| !self.steps.contains(name) && self.scene.opens(name).is_some());
        (!is_elsewhere).then_some(steps)
    }

    /// The calls that its rows have still to make.
    fn calls(&self) -> Calls {
        let mut calls = Calls::new();
        for (step, rows) in self.rows.iter().enumerate() {
            self.scene.add(&mut calls, self.steps.get(step..).unwrap_or_default(), *rows);
        }
        self.scene.add(&mut calls, self.steps, self.batch.processing as f64 * UNDER_WAY);
        calls
    }

    /// Clients are worked in turn, call by call: while this one's rows go by, every other client has as many of its own
    /// worked, if it has them and is granted them. What they call that this one does not is no affair of it.
    fn add_neighbours(&self, calls: &mut Calls, rows: f64, alone: f64) {
        let scene = self.scene;
        let runs = (alone / scene.every_seconds()).floor() + 1.0;
        let mut shares: BTreeMap<i64, f64> = BTreeMap::new();
        for other in scene.crowd.neighbours(self.batch.client) {
            let mut left = rows.min(f64::from(other.granted) + f64::from(other.limit) * runs);
            for (version, theirs) in other.rows() {
                let meets = |steps: &[String]| steps.iter().any(|name| self.steps.contains(name));
                if self.steps_here(version).is_some_and(meets) {
                    let share = theirs.counted().min(left);
                    left -= share;
                    *shares.entry(version).or_default() += share * other.stands_for;
                }
            }
        }
        for (version, rows) in shares {
            let steps = self.steps_here(version).unwrap_or_default();
            let shared: Vec<_> = steps.iter().filter(|name| self.steps.contains(name)).cloned().collect();
            scene.add(calls, &shared, rows);
        }
    }

    /// Seconds that the last of its rows takes with nothing but answers in its way.
    fn way(&self) -> f64 {
        let first = self.rows.iter().position(|rows| *rows > 0.0);
        match first {
            Some(step) => self.scene.way(self.steps.get(step..).unwrap_or_default()),
            None => self.scene.way(self.steps) * UNDER_WAY,
        }
    }

    /// What is through last with these calls, if they begin at `start`: one of the dependencies that it calls, or all
    /// together.
    fn slowest(&self, calls: &Calls, start: f64) -> Option<Bound> {
        let mine = calls.iter().filter(|(name, calls)| **calls > 0.0 && self.steps.contains(name));
        let bounds = mine.filter_map(|(name, calls)| self.dependency_ends(name, *calls, start));
        bounds.chain(self.under_way_ends(calls, start)).max_by(|a, b| a.ends_after.total_cmp(&b.ends_after))
    }

    fn dependency_ends(&self, name: &str, calls: f64, start: f64) -> Option<Bound> {
        let (scene, way) = (self.scene, self.way());
        let pace = scene.dependencies.get(name)?;
        let through = pace.throughput();
        let takes = calls / through.per_second.max(f64::MIN_POSITIVE);
        let its_own = self.steps.iter().filter(|step| *step == name).count() as f64 * pace.step_takes();
        // Where the rate bounds, the last call leaves then and is answered later; where the latency does, that is in it.
        let works = match through.limit {
            pace::Limit::Rate => takes + way,
            pace::Limit::Places | pace::Limit::Flow => (takes + way - its_own).max(way),
        };
        let opens = scene.opens(name).unwrap_or(0.0);
        let reason = match pace.closed {
            Some((until, why)) if opens > start.max(works) => {
                format!("{name} {}, next try {}", shuts(why), until.told_ahead(scene.now))
            }
            _ => format!("{name} {}", pace.told()),
        };
        Some(Bound { ends_after: start.max(opens) + works, waits: opens, reason })
    }

    fn under_way_ends(&self, calls: &Calls, start: f64) -> Option<Bound> {
        let scene = self.scene;
        let busy = calls.iter().filter_map(|(name, calls)| Some(calls * scene.dependencies.get(name)?.latency));
        let works = busy.sum::<f64>() / scene.under_way.max(1) as f64;
        let reason = format!(
            "a row takes {} to be answered, and `workers.under_way` allows no more than {} at once",
            pace::short(scene.way(self.steps)),
            counted(scene.under_way as f64, "row")
        );
        (works > self.way()).then_some(Bound { ends_after: start + works, waits: 0.0, reason })
    }

    /// When the client's grants will have been enough for the batch and for its elders.
    fn grants(&self, pending_ahead: u64, start: f64) -> Option<Bound> {
        let (scene, batch) = (self.scene, self.batch);
        let every = scene.every_seconds();
        let mut next = scene.last_run.map_or(every, |at| seconds(at.after(scene.every).since(scene.now)));
        let mut at_hand = u64::from(batch.granted);
        if start > next {
            // What was granted before there is a row to claim is gone with the next run.
            next += ((start - next) / every).ceil() * every;
            at_hand = 0;
        }
        let pending = batch.pending.saturating_sub(self.standing.prepaid);
        let wanted = (pending + pending_ahead).saturating_sub(at_hand);
        if wanted == 0 || pending == 0 {
            return Some(Bound { ends_after: start, waits: 0.0, reason: "its rows are granted already".to_owned() });
        }
        let limit = u64::from(batch.limit);
        let runs = wanted.checked_next_multiple_of(limit)? / limit;
        let in_the_last = (wanted - (runs - 1) * limit).min(pending);
        let last_run = next + (runs - 1) as f64 * every;
        let mut calls = Calls::new();
        scene.add(&mut calls, self.steps, in_the_last as f64);
        let every_told = told(scene.every);
        let reason = match runs {
            1 => format!("the next dispatch run has to grant its rows, one comes every {every_told}"),
            _ => format!("client limit: {} a run, a run every {every_told}", counted(batch.limit.into(), "row")),
        };
        let begins = last_run.max(start);
        let ends_after = self.slowest(&calls, begins).map_or(begins, |bound| bound.ends_after);
        Some(Bound { ends_after, waits: (last_run - start).max(0.0), reason })
    }

    /// How long the last row waits for its next try that has to be expected to fail. Rows that wait have failed already.
    fn last_failure_waits(&self) -> f64 {
        let paces = self.steps.iter().filter_map(|name| self.scene.dependencies.get(name));
        let failures = self.standing.unstarted(self.batch) as f64 * paces.map(|pace| pace.repeats).sum::<f64>();
        if failures >= ONE_FAILS { seconds(backoff::FIRST_WAIT) } else { 0.0 }
    }

    /// The same, or later where a row waits longer for its next try.
    fn tried_again(&self, last: Bound) -> Bound {
        let Some(at) = self.standing.last_due else { return last };
        let ends_after = seconds(at.since(self.scene.now)) + self.way();
        let reason = format!("the last of its rows that failed is tried again at {}", at.told_ahead(self.scene.now));
        let is_later = ends_after > last.ends_after && self.standing.not_before.is_none_or(|first| first < at);
        if is_later {
            Bound { ends_after, reason, ..last }
        } else {
            Bound { ends_after: last.ends_after.max(ends_after), ..last }
        }
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// A time between runs, for a person: `60 s`.
pub fn told(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests;
