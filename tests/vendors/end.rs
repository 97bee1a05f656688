//! The end of the process while an API hangs for longer than there is time: what may be repeated is pending, what may not is for
//! a person, and the next start waits for neither.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::{
    support::{
        app::{App, Setup},
        server::{Reply, Server},
    },
    zoo::{api, created, database, ended, ends, people, setup, upload},
};

const ROWS: usize = 12;
/// The drain is a second: an end and a start beyond it.
const SOON: Duration = Duration::from_secs(15);
/// Longer than any test: nobody may wait for these calls, nor for their claims.
const HANGS: &str = "rate_per_second = 500\nburst = 50\nconcurrency = 64\ntimeout = \"10m\"";

/// Both kinds of steps hang until it is well.
fn hanging() -> (Server, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = well.clone();
    let server = Server::start(move |request| if is_well.load(SeqCst) { created(request) } else { Reply::Silence });
    (server, well)
}

#[test]
fn calls_that_outlast_the_end_are_repeated_where_that_is_harmless_and_told_where_it_is_not() {
    let (again, again_well) = hanging();
    let (once, once_well) = hanging();
    let apis = [api("again", &again, HANGS, "", ""), api("once", &once, HANGS, "", "repeat = \"never\"")];
    let workers = "under_way = 64\ndrain = \"1s\"\nclaim_ttl = \"10m\"".to_owned();
    let mut app = App::start(Setup { workers, ..setup(&apis) });
    let ids = ["again", "once"].map(|name| upload(&app, &app.key, name, &people(&format!("{name}.example"), ROWS)));
    app.until("all hang", || (again.calls() == ROWS && once.calls() == ROWS).then_some(()));

    let begun = Instant::now();
    assert_eq!(app.terminate(), Some(0));
    assert!(begun.elapsed() < SOON, "it ended after {:?}", begun.elapsed());
    let held = "SELECT count(*) FROM rows WHERE status = 'processing'";
    let held: i64 = database(&app).query_row(held, [], |row| row.get(0)).expect("a count");
    assert_eq!(held, 0, "nobody holds a row any more");

    [again_well, once_well].iter().for_each(|well| well.store(true, SeqCst));
    let begun = Instant::now();
    app.serve();
    let [repeated, doubtful] = ids.each_ref().map(|id| ended(&app, &app.key, id));
    assert!(begun.elapsed() < SOON, "what was under way was waited for: {:?}", begun.elapsed());
    assert_eq!((repeated["counts"]["completed"].as_u64(), again.calls()), (Some(ROWS as u64), 2 * ROWS));
    assert_eq!((doubtful["counts"]["failed"].as_u64(), once.calls()), (Some(ROWS as u64), ROWS), "none left twice");
    assert!(ends(&app, &ids[1]).values().all(|code| code == "outcome_unknown"));
}
