//! Requests that left before a batch was moved to another version, and of which nobody knows what became: never sent as
//! something else, unless they do no harm.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::SeqCst},
};

use serde_json::Value;

use crate::{
    act, configured, edit, restart_with,
    support::{
        app::App,
        server::{Reply, Server, status},
    },
    upgrade,
    zoo::{QUICK, created, dependency, ended, ends, keys, people, post, retry, upload, workflow},
};

const ROWS: usize = 3;
/// More patient than the tests are: what was sent is not known when the server is killed.
const PATIENT: &str = "rate_per_second = 200\nburst = 20\ntimeout = \"60s\"\ngate_after = 100000";

/// How the vendor answers, for all to change.
struct Mood(Arc<AtomicU8>);

impl Mood {
    const SILENT: u8 = 0;
    const REFUSES: u8 = 1;
    const WELL: u8 = 2;

    fn is(&self, mood: u8) {
        self.0.store(mood, SeqCst);
    }
}

fn vendor() -> (Server, Mood) {
    let mood = Arc::new(AtomicU8::new(Mood::SILENT));
    let asked = mood.clone();
    let server = Server::start(move |request| match asked.load(SeqCst) {
        Mood::SILENT => Reply::Silence,
        Mood::REFUSES => status(422),
        _ => created(request),
    });
    (server, Mood(mood))
}

/// The workflow `chain` of one step like this.
fn with(server: &Server, step: &str) -> String {
    dependency("api", server.address, PATIENT) + &workflow("chain", "", &[step.to_owned()])
}

/// The step `a`, as a PUT, which may be sent as often as one likes.
fn put() -> String {
    post("a", "api", "").replace("\"POST\"", "\"PUT\"")
}

fn noting(step: String, note: &str) -> String {
    format!("{step}headers = {{ X-Note = \"{note}\" }}\n")
}

/// A batch of which each row was sent once by a server that died before it was answered. Paused, so that the next one does
/// nothing by itself.
fn sent_by_a_dead_one(app: &mut App, server: &Server) -> String {
    let id = upload(app, &app.key, "chain", &people("dead.example", ROWS));
    app.until("each was sent", || (keys(server).len() == ROWS).then_some(()));
    app.kill();
    assert!(app.command(&["batch", "pause", &id]).status.success());
    id
}

/// Moves the batch to this by command, beside a server or before it starts.
fn moved_by_command(app: &App, id: &str, present: &str) {
    edit(app, present);
    let output = app.command(&["batch", "upgrade", id]);
    assert!(output.status.success(), "{output:?}");
}

/// Notes of what came to the vendor, each once.
fn notes(server: &Server) -> Vec<String> {
    let mut notes: Vec<_> = server.received().iter().map(|request| request.header("x-note").to_owned()).collect();
    notes.dedup();
    notes
}

#[test]
fn what_does_no_harm_twice_is_sent_as_it_is_now() {
    let (server, mood) = vendor();
    let like = |note: &str| dependency("api", server.address, QUICK) + &workflow("chain", "", &[noting(put(), note)]);
    let mut app = configured(&like("old"));
    let id = upload(&app, &app.key, "chain", &people("late.example", ROWS));
    app.until("each was sent", || (keys(&server).len() == ROWS).then_some(()));
    act(&app, &id, "pause");
    app.until("nothing is under way", || (app.batch(&id)["counts"]["processing"] == 0).then_some(()));
    restart_with(&mut app, &like("new"));
    assert_eq!(upgrade(&app, &id).0, 200);
    mood.is(Mood::WELL);
    act(&app, &id, "resume");
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], ROWS);
    assert_eq!(notes(&server), ["old", "new"]);
}

/// The vendor may have done what a POST asked for. A PUT in its place is harmless by itself, and does it once more.
#[test]
fn what_may_be_done_is_not_done_once_more_by_a_step_that_is_harmless_now() {
    for never in [false, true] {
        let (server, mood) = vendor();
        let repeat = if never { "repeat = \"never\"" } else { "" };
        let mut app = configured(&with(&server, &post("a", "api", repeat)));
        let id = sent_by_a_dead_one(&mut app, &server);
        let sent = server.calls();
        edit(&app, &with(&server, &put()));
        app.serve();
        assert_eq!(upgrade(&app, &id).0, 200);
        mood.is(Mood::WELL);
        act(&app, &id, "resume");
        ended(&app, &app.key, &id);
        assert!(ends(&app, &id).values().all(|end| end == "outcome_unknown"), "never: {never}, {:?}", ends(&app, &id));
        assert_eq!(server.calls(), sent, "never: {never}");
        // A person has found out that nothing was done.
        assert_eq!(retry(&app, &id, "?code=outcome_unknown")["rows"], ROWS);
        assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], ROWS);
        assert_eq!(server.calls(), sent + ROWS);
    }
}

/// A dead server's request got no answer, and its repeat was refused: that says nothing about the first one.
#[test]
fn what_was_refused_when_it_was_repeated_is_not_retried_as_something_else() {
    for upgraded in [false, true] {
        let (server, mood) = vendor();
        let mut app = configured(&with(&server, &noting(post("a", "api", ""), "old")));
        let id = sent_by_a_dead_one(&mut app, &server);
        mood.is(Mood::REFUSES);
        app.serve();
        act(&app, &id, "resume");
        ended(&app, &app.key, &id);
        assert!(ends(&app, &id).values().all(|end| end == "rejected"), "{:?}", ends(&app, &id));
        let before = app.rows(&id);
        if upgraded {
            moved_by_command(&app, &id, &with(&server, &noting(post("a", "api", ""), "new")));
        }
        mood.is(Mood::WELL);
        assert_eq!(retry(&app, &id, "")["rows"], ROWS);
        ended(&app, &app.key, &id);
        let expected = if upgraded { "outcome_unknown" } else { "completed" };
        assert!(ends(&app, &id).values().all(|end| end == expected), "upgraded: {upgraded}, {:?}", ends(&app, &id));
        crate::zoo::assert_one_key_each(&server);
        assert_eq!(notes(&server), ["old"]);
        let requests =
            |rows: &[Value]| -> Vec<Value> { rows.iter().map(|row| row["steps"][0]["requests"].clone()).collect() };
        if upgraded {
            assert_eq!(requests(&app.rows(&id)), requests(&before), "nothing left");
        }
    }
}
