//! `[dispatch]`, `[workers]`, `[uploads]`: how much is done at once, and when.

use std::time::Duration;

use super::{reader::Section, units::show_duration};

/// The largest grant of a run.
pub const MOST_ROWS_PER_RUN: u32 = 16_000_000;

/// `[dispatch]`
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// `rows_per_client_per_run`: what a run grants a client that has no number of its own. Default 500.
    pub rows_per_client_per_run: u32,
    /// `every`: the built-in clock. Left out: none, runs are asked for over HTTP.
    pub every: Option<Duration>,
    /// `expect_every`: without `every`, how often a run should be asked for; three missing ones are told. Default 60s.
    pub expect_every: Duration,
    /// `take_over`: start the built-in clock when three expected runs are missing, until calls come again. Default
    /// false.
    pub take_over: bool,
    /// `min_interval`: a run sooner than this after the last one grants nothing. Default 30s.
    pub min_interval: Duration,
    /// What is set and does nothing, or not what it seems to, beside the other settings: for whoever reads the log of a
    /// start, or asks the doctor. No fault, because what is in force is clear.
    pub idle: Vec<String>,
}

impl Dispatch {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let [has_expectation, takes_over] = ["expect_every", "take_over"].map(|key| section.has(key));
        let mut dispatch = Self {
            rows_per_client_per_run: section.integer("rows_per_client_per_run", 500, 1..=MOST_ROWS_PER_RUN),
            every: section.optional_duration("every"),
            expect_every: section.duration("expect_every", Duration::from_secs(60)),
            take_over: section.flag("take_over", false),
            min_interval: section.duration("min_interval", Duration::from_secs(30)),
            idle: Vec::new(),
        };
        if dispatch.every.is_some_and(|every| every.is_zero()) {
            section.fault("every", "is longer than 0s; leave it out for no built-in clock");
        }
        if dispatch.expect_every.is_zero() {
            section.fault("expect_every", "is longer than 0s");
        }
        section.finish();
        dispatch.idle = dispatch.find_idle(has_expectation, takes_over && dispatch.take_over);
        dispatch
    }

    fn find_idle(&self, has_expectation: bool, takes_over: bool) -> Vec<String> {
        let mut idle = Vec::new();
        if self.every.is_some() {
            if has_expectation {
                idle.push("dispatch.expect_every: dispatch.every is set, so no calls are expected".to_owned());
            }
            if takes_over {
                idle.push("dispatch.take_over: dispatch.every is set, so the built-in clock runs anyway".to_owned());
            }
        } else if takes_over && !has_expectation {
            let every = show_duration(self.expect_every);
            idle.push(format!(
                "dispatch.take_over: dispatch.expect_every is not set, so a call is expected every {every}"
            ));
        }
        let (name, every) = self.every.map_or(("expect_every", self.expect_every), |every| ("every", every));
        if self.min_interval > every {
            let [shortest, every] = [self.min_interval, every].map(show_duration);
            idle.push(format!(
                "dispatch.min_interval: {shortest} is longer than dispatch.{name}, {every}: runs in between grant nothing"
            ));
        }
        idle
    }
}

/// `workers.under_way`, where nothing is said.
const UNDER_WAY: u32 = 4_096;
/// And at most: each has a connection, and takes some kilobytes.
const MOST_UNDER_WAY: u32 = 65_536;

/// `workers.under_way_bytes`, where nothing is said, and at least. A request takes up to three times as many as its row is stored
/// in: the row itself, what is sent, and what is written back.
const UNDER_WAY_BYTES: u64 = 16 << 20;
const LEAST_UNDER_WAY_BYTES: usize = 1 << 20;

/// `[workers]`
#[derive(Debug, Clone)]
pub struct Workers {
    /// `under_way`: the most requests under way at once, over all dependencies. Default 4,096.
    pub under_way: usize,
    /// `under_way_bytes`: what the rows under way may take at once, in the bytes that they are stored in; those for which there
    /// is no room wait. Default 16MiB.
    pub under_way_bytes: usize,
    /// `claim_ttl`: a claim that was not renewed for so long is stuck. Default 2m.
    pub claim_ttl: Duration,
    /// `auto_rescue`: the server frees stuck claims by itself. Default true.
    pub auto_rescue: bool,
    /// `drain`: what is under way at shutdown gets so long. Default 20s.
    pub drain: Duration,
}

impl Workers {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let workers = Self {
            under_way: section.integer("under_way", UNDER_WAY, 1..=MOST_UNDER_WAY) as usize,
            under_way_bytes: usize::try_from(section.size("under_way_bytes", UNDER_WAY_BYTES)).unwrap_or(usize::MAX),
            claim_ttl: section.duration("claim_ttl", Duration::from_secs(120)),
            auto_rescue: section.flag("auto_rescue", true),
            drain: section.duration("drain", Duration::from_secs(20)),
        };
        if workers.under_way_bytes < LEAST_UNDER_WAY_BYTES {
            section.fault("under_way_bytes", "is at least 1MiB");
        }
        if workers.claim_ttl < Duration::from_secs(1) {
            section.fault("claim_ttl", "is at least 1s");
        }
        section.finish();
        workers
    }
}

/// `uploads.longest`, where nothing is said: the largest file that may be uploaded comes in that time over a line of 5 Mbit/s;
/// and at least.
const LONGEST_UPLOAD: Duration = Duration::from_secs(30 * 60);
const LEAST_LONGEST_UPLOAD: Duration = Duration::from_secs(1);

/// `[uploads]`
#[derive(Debug, Clone)]
pub struct Uploads {
    /// `at_once`: uploads under way; more are told to come again. Default 4.
    pub at_once: usize,
    /// `longest`: where all places are taken, an upload for whose bytes we waited so long in all makes way for a client that has
    /// fewer under way. Default 30m.
    pub longest: Duration,
}

impl Uploads {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let at_once = section.integer("at_once", 4, 1..=64) as usize;
        let longest = section.duration("longest", LONGEST_UPLOAD);
        if longest < LEAST_LONGEST_UPLOAD {
            section.fault("longest", "is at least 1s");
        }
        section.finish();
        Self { at_once, longest }
    }
}
