//! Another process holds the database's lock for longer than anybody waits for it.

use std::time::Duration;

use dripfeed::simulator::SimulatorOptions;

use crate::{
    assert_each_row_once, batches, database,
    support::app::{App, Setup, people},
    until_no_upload_is_left,
};

const ROWS: usize = 200;

#[test]
fn a_database_that_is_locked_elsewhere_loses_nothing_and_repeats_nothing() {
    let app = App::start(Setup {
        more: "[database]\nbusy_timeout = \"1s\"".into(),
        simulator: SimulatorOptions { latency: Duration::from_millis(20), ..SimulatorOptions::default() },
        ..Setup::default()
    });
    let id = app.accepted(people(ROWS));
    app.until("some rows are done", || (app.batch(&id)["counts"]["completed"].as_u64() >= Some(10)).then_some(()));

    let elsewhere = database(&app);
    elsewhere.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let (status, problem) = app.upload(&app.key, people(3));
    assert_eq!((status, &problem["code"]), (503, &"unavailable".into()), "{problem}");
    let detail = problem["detail"].as_str().expect("a sentence");
    assert!(detail.contains("nothing was changed") && detail.contains("Try again"), "{detail}");
    app.until("a settle was refused", || app.log().contains("a settle was refused").then_some(()));
    assert_eq!(app.batch(&id)["status"], "queued", "reading goes on");
    elsewhere.execute_batch("ROLLBACK").expect("let go");

    assert_eq!(app.until_status(&id, "completed")["counts"]["completed"], ROWS);
    assert_each_row_once(&app, ROWS as u64);
    assert_eq!(batches(&app), 1, "the refused upload is no batch");
    until_no_upload_is_left(&app);
    let second = app.accepted(people(3));
    app.until_status(&second, "completed");
}
