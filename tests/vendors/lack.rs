//! Too few files for more connections are our own affair: no attempt, no closed gate, and nothing is lost.

use std::time::Duration;

use crate::{
    support::{
        app::App,
        server::{Server, late},
    },
    zoo::{api, created, dependency_of, ended, gate_is_open, people, setup, upload},
};

/// Too few for as many requests as could be under way.
const FILES: usize = 110;
const ROWS: usize = 300;
/// More could be under way than there are files for, and each takes long.
const SLOW: &str = "rate_per_second = 400\nburst = 50\nconcurrency = 300\ntimeout = \"20s\"\ngate_after = 5";

#[test]
fn requests_for_which_no_file_is_left_wait_and_are_no_attempts() {
    let server = Server::start(|request| late(Duration::from_secs(1), created(request)));
    let once = api("once", &server, SLOW, "max_attempts = 1", "repeat = \"never\"");
    let mut app = App::prepared(setup(&[once]));
    app.launch_by(&format!("ulimit -n {FILES}; exec \"$0\" \"$@\""));
    assert!(app.listens(), "{}", app.log());
    let id = upload(&app, &app.key, "once", &people("once.example", ROWS));
    let told =
        app.until("it is told", || app.events().into_iter().find(|event| event["event"] == "connections.lacking"));
    assert!(told["dependency"] == "once" && told["lack"].as_str().is_some_and(|why| why.contains("ulimit")), "{told}");
    assert!(gate_is_open(&app, "once"), "{}", dependency_of(&app, "once"));
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], ROWS);
    assert_eq!(server.calls(), ROWS, "each left once");
    assert!(app.rows(&id).iter().all(|row| row["steps"][0]["requests"] == 1), "and no other was counted");
    assert!(!app.log().contains("gate.closed"), "its gate never closed");
}
