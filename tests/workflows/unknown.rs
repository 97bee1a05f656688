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

/// The claim of a dead server says only that something may have left. What it was follows from what is on disk.
#[test]
fn what_a_dead_server_sent_goes_on_where_the_present_version_sends_the_same() {
    for by_another_name in [false, true] {
        let (server, mood) = vendor();
        let noted =
            |filter: &str| format!("{}headers = {{ X-Note = \"{{{{ row.note{filter} }}}}\" }}\n", post("a", "api", ""));
        let mut app = configured(&with(&server, &noted("")));
        let csv = "email,note\np1@dead.example,same\np2@dead.example,other\np3@dead.example,same\n";
        let id = upload(&app, &app.key, "chain", csv);
        app.until("each was sent", || (keys(&server).len() == ROWS).then_some(()));
        app.kill();
        assert!(app.command(&["batch", "pause", &id]).status.success());

        let steps = [noted(" | replace('other', 'another')"), post("b", "api", "")];
        let present = dependency("api", server.address, PATIENT) + &workflow("chain", "", &steps);
        let present = if by_another_name {
            // What the batch's version calls is not there any more; that is what an upgrade is for too.
            present
                .replace("[dependencies.api]", "[dependencies.crm]")
                .replace("dependency = \"api\"", "dependency = \"crm\"")
        } else {
            present
        };
        // The server frees what the dead one held.
        edit(&app, &present);
        app.serve();
        assert_eq!(upgrade(&app, &id).0, 200);
        mood.is(Mood::WELL);
        act(&app, &id, "resume");
        ended(&app, &app.key, &id);
        let ends = ends(&app, &id);
        assert_eq!(
            ["p1", "p2", "p3"].map(|who| ends[&format!("{who}@dead.example")].as_str()),
            ["completed", "outcome_unknown", "completed"],
            "by another name: {by_another_name}"
        );
        let at_a = server.received().into_iter().filter(|request| request.path() == "/a");
        let mut keys_at_a = std::collections::BTreeMap::<_, std::collections::BTreeSet<_>>::new();
        for request in at_a {
            keys_at_a
                .entry(crate::zoo::email(&request))
                .or_default()
                .insert(request.header("idempotency-key").to_owned());
        }
        assert!(keys_at_a.values().all(|keys| keys.len() == 1), "{keys_at_a:?}");
    }
}

/// The same at a later step, whose request is built from what the one before saved.
#[test]
fn what_a_dead_server_sent_at_a_later_step_goes_on_too() {
    let mood = Arc::new(AtomicU8::new(Mood::SILENT));
    let asked = mood.clone();
    let server = Server::start(move |request| match (request.path(), asked.load(SeqCst)) {
        ("/a", _) => crate::support::server::late(std::time::Duration::from_millis(300), created(request)),
        (_, Mood::SILENT) => Reply::Silence,
        _ => created(request),
    });
    let b = post("b", "api", "headers = { X-Note = \"{{ saved.of_a }}\" }");
    let old = [post("a", "api", "save = { of_a = \"/id\" }"), b];
    let chain = |steps: &[String]| dependency("api", server.address, PATIENT) + &workflow("chain", "", steps);
    let mut app = configured(&chain(&old));
    let id = upload(&app, &app.key, "chain", &people("dead.example", ROWS));
    app.until("each is at its first step", || (keys(&server).len() == ROWS).then_some(()));
    act(&app, &id, "pause");
    app.until("they are put down between the two", || (app.batch(&id)["counts"]["processing"] == 0).then_some(()));
    act(&app, &id, "resume");
    let at_b = || server.received().iter().filter(|request| request.path() == "/b").count();
    app.until("each is at its second step", || (at_b() == ROWS).then_some(()));
    app.kill();
    assert!(app.command(&["batch", "pause", &id]).status.success());
    edit(&app, &chain(&[old[0].clone(), post("x", "api", ""), old[1].clone(), post("c", "api", "")]));
    app.serve();
    assert_eq!(upgrade(&app, &id).0, 200);
    mood.store(Mood::WELL, SeqCst);
    act(&app, &id, "resume");
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], ROWS, "{:?}", ends(&app, &id));
    assert_eq!(at_b(), 2 * ROWS);
}
