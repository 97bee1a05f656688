//! Few files may be open, and callers and calls would take all of them: what is opened besides, for the database, for uploads,
//! finds some all the same.

use std::{fs, io::Write, time::Duration};

use dripfeed::simulator::SimulatorOptions;

use crate::{
    raw::{ask, connection_from, idle},
    support::app::{App, Setup, people},
};

/// As many as may be open.
const FILES: usize = 256;
/// More calls than that could be under way, and each takes a while.
const ROWS: usize = 250;
const CALLS: &str = "rate_per_second = 1000\nburst = 100\nconcurrency = 300\ntimeout = \"20s\"";
const LATENCY: Duration = Duration::from_millis(500);

/// Files that the server has open.
fn open(app: &App) -> usize {
    fs::read_dir(format!("/proc/{}/fd", app.process_id())).expect("the server is alive").count()
}

#[test]
fn callers_and_calls_leave_files_to_the_database_and_to_uploads() {
    let mut app = App::prepared(Setup {
        workers: "under_way = 512".into(),
        dependency: CALLS.into(),
        dispatch: "every = \"1s\"\nmin_interval = \"0s\"".into(),
        simulator: SimulatorOptions { latency: LATENCY, ..SimulatorOptions::default() },
        ..idle()
    });
    app.launch_by(&format!("ulimit -n {FILES}; exec \"$0\" \"$@\""));
    assert!(app.listens(), "{}", app.log());
    let events = app.events();
    let told = events.iter().find(|event| event["event"] == "files.few").expect("it is told at the start");
    let [connections, calls] = ["connections", "calls"].map(|name| told[name].as_u64().expect("a number"));
    assert!(told["files"] == FILES && connections + calls < FILES as u64 - 80, "{told}");

    // More than there are files, each half through a head; and as many calls as can be.
    let half_a_head = b"POST /session HTTP/1.1\r\nHost: a\r\nContent-Type: app";
    let _crowd: Vec<_> = (10..16)
        .flat_map(|from| [from; 60])
        .map(|from| {
            let mut stream = connection_from(&app, from);
            // Where there was no place for it, it was closed.
            let _ = stream.write(half_a_head);
            stream
        })
        .collect();
    let id = app.accepted(people(ROWS));
    app.until("calls have all that they may", || app.log().contains("connections.lacking").then_some(()));
    let (told, _) = ask(&app, 200, "GET /readyz HTTP/1.1");
    assert_eq!(told.status, 200, "{told:?}");
    let second = app.accepted(people(3));
    let most = open(&app);
    assert!(most < FILES - 40, "{most} files are open");
    let counts = app.until_status(&id, "completed")["counts"].clone();
    assert_eq!(counts["completed"], ROWS, "what could not leave was tried again: {counts}");
    app.until_status(&second, "completed");
    let worst =
        app.events().into_iter().find(|event| event["level"] == "ERROR" || event["event"] == "connection.not_accepted");
    assert_eq!(worst, None);
}
