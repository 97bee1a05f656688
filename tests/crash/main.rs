//! Never lost and never twice, on a server that keeps dying: dozens of SIGKILLs, at named points and at random moments,
//! through upload, extraction, claims, calls and settles, while two clients upload and the downstream errs and hangs.
//!
//! `DRIPFEED_CRASH_CYCLES` makes it longer, `DRIPFEED_CRASH_SEED` repeats the plan of an earlier run.

mod deaths;
mod files;
mod uploader;
mod verdict;

#[path = "../support/mod.rs"]
mod support;

use std::{env, fmt::Debug, io::Write, str::FromStr, time::Duration};

use deaths::{Death, Toll};
use dripfeed::simulator::SimulatorOptions;
use files::{CsvFile, Workflow};
use rand::{SeedableRng, rngs::StdRng};
use support::app::{App, Setup};
use uploader::{Door, Uploaded, Uploader};

/// Each cycle visits every named point once, and as many random moments.
const CYCLES: u32 = 2;
/// Rows of the file that every round begins with.
const ROWS: u32 = 100;
/// Requests to a dependency that may be under way at once.
const UNDER_WAY: u32 = 16;
/// The share of calls that the downstream does and never answers.
const HANG: f64 = 0.002;
/// The share that it answers by 500, which says nothing of whether it was done.
const ERRORS: f64 = 0.05;
/// Rows of a file that is extracted in more than one chunk.
const ROWS_IN_CHUNKS: u32 = 10_100;

#[test]
fn a_server_that_keeps_dying_loses_nothing_and_does_nothing_twice() {
    let seed = number_from("DRIPFEED_CRASH_SEED").unwrap_or_else(rand::random);
    let cycles = number_from("DRIPFEED_CRASH_CYCLES").unwrap_or(CYCLES);
    println!("DRIPFEED_CRASH_SEED={seed}");
    let mut app = App::prepared(setup());
    let door = Door::default();
    let keys = [app.key.clone(), app.add_client("globex", None)];
    let uploaders = keys.map(|key| Uploader::start(key, door.clone()));

    let mut toll = Toll::default();
    for (number, death) in deaths::plan(cycles, &mut StdRng::seed_from_u64(seed)).into_iter().enumerate() {
        println!("round {number}: {death:?}");
        uploaders[number % 2].begin(file(number as u32, &death));
        death.come_over(&mut app, &door);
        toll.count(death);
    }

    app.serve();
    door.open(&app.url(""));
    let uploaded: Vec<Uploaded> = uploaders.into_iter().flat_map(Uploader::finish).collect();
    let verdict = verdict::of(&mut app, &uploaded);
    toll.assert_every_point_was_hit();
    let (in_flight, calls) = (toll.deaths() * UNDER_WAY, app.stats().calls.invite_create as f64);
    // Twice the mean, for luck, and of errors, which are many, a quarter more than that. Were more than what is never repeated
    // taken for unknown, there would be far more.
    let never_repeated: u32 =
        uploaded.iter().filter(|it| it.file.workflow == Workflow::Once).map(|it| it.file.rows).sum();
    let unanswered = 2.0 * HANG * calls + 1.25 * ERRORS * f64::from(never_repeated);
    verdict.assert_unknown_at_most(in_flight + unanswered as u32);
    // Written past the test harness, which shows what a passing test prints to nobody.
    writeln!(std::io::stderr(), "crash test, seed {seed}: {verdict}\n{toll}").expect("standard error");
}

/// A lifelike downstream: it takes its time, now and then it errs, and now and then it does what it is asked and says
/// nothing. Tries are many and rates high, so that only a crash or a silence can keep a row from being completed.
fn setup() -> Setup {
    Setup {
        more: files::WORKFLOWS.into(),
        dispatch: "every = \"200ms\"\nmin_interval = \"0s\"\nrows_per_client_per_run = 20000".into(),
        workers: String::new(),
        dependency: format!("rate_per_second = 5000\nburst = 100\nconcurrency = {UNDER_WAY}\ntimeout = \"1s\""),
        simulator: SimulatorOptions {
            latency: Duration::from_millis(5),
            errors: ERRORS,
            hang: HANG,
            ..SimulatorOptions::default()
        },
        ..Setup::default()
    }
}

/// The file of a round: every client uploads to both workflows.
fn file(number: u32, death: &Death) -> CsvFile {
    let (workflow, rows) = match death {
        Death::At { point: "extract.between_chunks", .. } => (Workflow::Once, ROWS_IN_CHUNKS),
        _ if (number / 2).is_multiple_of(2) => (Workflow::Invite, ROWS),
        _ => (Workflow::Once, ROWS),
    };
    CsvFile { number, workflow, rows }
}

fn number_from<T: FromStr<Err: Debug>>(variable: &str) -> Option<T> {
    env::var(variable).ok().map(|text| text.parse().expect(variable))
}
