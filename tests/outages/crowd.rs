//! Many callers want to write while another process holds the database's lock.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use dripfeed::simulator::SimulatorOptions;

use crate::{
    assert_each_row_once, database,
    support::app::{App, OPERATOR, Setup, people},
};

const ROWS: usize = 300;
const CALLERS: usize = 100;
/// How long a write waits for the lock.
const TIMEOUT: Duration = Duration::from_secs(2);
/// What is asked meanwhile is answered within this, on a machine that has other things to do too.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn whoever_waited_for_a_locked_database_is_told_at_once_with_all_others_while_reads_go_on() {
    let app = App::start(Setup {
        more: "[database]\nbusy_timeout = \"2s\"".into(),
        simulator: SimulatorOptions { latency: Duration::from_millis(20), ..SimulatorOptions::default() },
        ..Setup::default()
    });
    let id = app.accepted(people(ROWS));
    app.until("some rows are done", || (app.batch(&id)["counts"]["completed"].as_u64() >= Some(10)).then_some(()));
    let elsewhere = database(&app);
    elsewhere.execute_batch("BEGIN IMMEDIATE").expect("the lock");

    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (app, answered) = (&app, &answered);
            scope.spawn(move || {
                let begun = Instant::now();
                let (status, problem) =
                    app.post(OPERATOR, &format!("/ops/v1/dispatch/{}", ["pause", "resume"][caller % 2]));
                assert_eq!((status, &problem["code"]), (503, &"unavailable".into()), "{problem}");
                // One after another they would have waited for the lock a dozen times.
                assert!(begun.elapsed() < 3 * TIMEOUT, "{:?}", begun.elapsed());
                answered.fetch_add(1, Ordering::SeqCst);
            });
        }
        while answered.load(Ordering::SeqCst) < CALLERS {
            for path in ["/livez", "/readyz", "/metrics", "/v2/batches", "/ops/v1/overview"] {
                let begun = Instant::now();
                assert_eq!(app.get(OPERATOR, path).0, 200, "{path}");
                assert!(begun.elapsed() < SOON, "{path} took {:?}", begun.elapsed());
            }
        }
    });
    app.until("a settle was refused", || app.log().contains("a settle was refused").then_some(()));
    elsewhere.execute_batch("ROLLBACK").expect("let go");

    assert_eq!(app.post(OPERATOR, "/ops/v1/dispatch/resume").0, 200, "it goes on");
    assert_eq!(app.until_status(&id, "completed")["counts"]["completed"], ROWS);
    assert_each_row_once(&app, ROWS as u64);
}
