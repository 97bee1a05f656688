//! What is sent, and how often: keys, retries, intents, and claims that were lost. The downstream is a server that
//! remembers every request.

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};
use support::{
    app::{App, DISPATCH, Setup, people},
    server::{Received, Reply, Server, ok, status},
};

const HEADER: &str = "email,first_name,last_name,phone,postcode,house_number";

/// Answers as the real APIs do; `on_invite` decides about the last step.
fn downstream(on_invite: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |request| match request.path() {
        "/address-links" => ok(r#"{"link": "l-1"}"#),
        "/addresses" => ok(r#"{"addresses": [{"id": "a-1"}]}"#),
        _ => on_invite(request),
    })
}

fn created() -> Reply {
    Reply::Answer(201, Vec::new(), r#"{"check_id": "chk_1"}"#.to_owned())
}

/// An App whose steps call this server, with runs asked for by the test.
fn app_on(server: &Server, more: &str) -> App {
    App::start(Setup {
        dispatch: "min_interval = \"0s\"".into(),
        dependency: "rate_per_second = 1000\nburst = 50\ntimeout = \"1s\"\ngate_after = 100".into(),
        downstream: Some(server.address),
        more: more.to_owned(),
        ..Setup::default()
    })
}

fn run(app: &App, id: &str) -> Value {
    app.until_status(id, "queued");
    app.post(DISPATCH, "/ops/v1/dispatch");
    app.until_status(id, "completed")
}

/// The keys that a path was called with, in order.
fn keys(server: &Server, path: &str) -> Vec<String> {
    let of = |request: &Received| request.headers.get("idempotency-key").cloned().unwrap_or_default();
    server.received().iter().filter(|request| request.path() == path).map(of).collect()
}

#[test]
fn a_corrected_file_sends_what_is_the_same_under_the_same_key_and_what_is_not_under_another() {
    let server = downstream(|_| status(422));
    let app = app_on(&server, "");
    let first = app
        .accepted(format!("{HEADER}\nann@mail.example,Ann,Smith,,AB1 2CD,1\nbob@mail.example,Bob,Jones,,AB1 2CD,2\n"));
    assert_eq!(run(&app, &first)["counts"]["failed"], 2);
    let (links, invites) = (keys(&server, "/address-links"), keys(&server, "/invites"));

    // Ann's address is corrected, Bob's row comes back as it was.
    let corrected = format!(
        "{HEADER},_batch,_row\nann@mail.example,Ann,Smith,,AB1 2CD,9,{first},1\nbob@mail.example,Bob,Jones,,AB1 2CD,2,{first},2\n"
    );
    assert_eq!(run(&app, &app.accepted(corrected))["counts"]["failed"], 2);
    let (links_again, invites_again) = (keys(&server, "/address-links"), keys(&server, "/invites"));
    let new = |all: &[String], before: &[String]| -> Vec<String> {
        all.iter().filter(|key| !before.contains(key)).cloned().collect()
    };
    assert_eq!((links_again.len(), new(&links_again, &links).len()), (4, 1), "a new key for Ann's new address alone");
    assert_eq!((invites_again.len(), new(&invites_again, &invites).len()), (4, 0), "the invites are the same requests");
    for key in links_again.iter().chain(&invites_again) {
        let is_opaque = key.len() >= 32 && !key.contains("mail") && !key.contains(&first);
        assert!(is_opaque, "{key}");
    }
    assert!(links.iter().all(|key| !invites.contains(key)), "a key belongs to a step");

    let stranger = app_on(&server, "");
    let id = stranger.accepted(format!("{HEADER}\nann@mail.example,Ann,Smith,,AB1 2CD,1\n"));
    run(&stranger, &id);
    assert_eq!(new(&keys(&server, "/address-links"), &links_again).len(), 1, "another appliance has other keys");
}

#[test]
fn a_retry_goes_on_from_the_failed_step_under_the_same_key() {
    let healthy = Arc::new(AtomicBool::new(false));
    let heals = healthy.clone();
    let server = downstream(move |_| if heals.swap(true, Ordering::SeqCst) { created() } else { status(500) });
    let app = app_on(&server, "");
    let id = app.accepted(people(1));
    app.until_status(&id, "queued");
    let batch = app.until("its second try succeeds, in a later run", || {
        app.post(DISPATCH, "/ops/v1/dispatch");
        Some(app.batch(&id)).filter(|batch| batch["status"] == "completed")
    });
    assert_eq!(batch["counts"]["completed"], 1, "{batch}");
    let paths: Vec<String> = server.received().iter().map(|request| request.path().to_owned()).collect();
    assert_eq!(paths, ["/address-links", "/addresses", "/invites", "/invites"]);
    let keys = keys(&server, "/invites");
    assert_eq!(keys[0], keys[1]);
    assert!(healthy.load(Ordering::SeqCst));
}

/// The workflow `invite`, with its last step sent once and never again by itself.
const NEVER: &str = r#"
[[workflows.invite.steps]]
name = "invite-create"
dependency = "invites"
method = "POST"
path = "/invites"
json = { email = "{{ row.email }}" }
save = { check_id = "/check_id" }
repeat = "never"
result = "check_id"
"#;

#[test]
fn an_unanswered_request_that_may_not_be_repeated_waits_for_a_persons_word() {
    let answers = Arc::new(AtomicBool::new(false));
    let told = answers.clone();
    let server = downstream(move |_| if told.load(Ordering::SeqCst) { created() } else { Reply::Silence });
    let app = app_on(&server, NEVER);
    let id = app.accepted(people(2));
    let batch = run(&app, &id);
    assert_eq!(batch["counts"]["failed"], 2, "{batch}");
    for row in app.rows(&id) {
        assert_eq!(row["error"]["code"], "outcome_unknown", "{row}");
        assert!(row["error"]["message"].as_str().is_some_and(|message| message.contains("could do things twice")));
    }
    assert_eq!(server.received().len(), 2, "sent once each");
    assert!(keys(&server, "/invites").iter().all(String::is_empty), "a key would promise what nobody keeps");
    answers.store(true, Ordering::SeqCst);
    let row = format!("{id}/1");
    assert_eq!(app.command(&["row", "run", &row]).status.code(), Some(1), "not without the word");
    assert_eq!(server.received().len(), 2);
    assert!(app.command(&["row", "run", &row, "--resend"]).status.success());
    assert_eq!((server.received().len(), &app.batch(&id)["counts"]["completed"]), (3, &json!(1)));
}

#[test]
fn killed_while_a_request_was_under_way_it_is_unknown_or_repeated_as_the_step_says() {
    for (workflow, expected) in [(NEVER, "failed"), ("", "completed")] {
        let answers = Arc::new(AtomicBool::new(false));
        let told = answers.clone();
        let server = downstream(move |_| if told.load(Ordering::SeqCst) { created() } else { Reply::Silence });
        let mut app = app_on(&server, workflow);
        let id = app.accepted(people(1));
        app.until_status(&id, "queued");
        app.post(DISPATCH, "/ops/v1/dispatch");
        app.until("the invite is under way", || (!keys(&server, "/invites").is_empty()).then_some(()));
        app.kill();
        answers.store(true, Ordering::SeqCst);
        app.serve();
        app.post(DISPATCH, "/ops/v1/dispatch");
        let batch = app.until_status(&id, "completed");
        assert_eq!(batch["counts"][expected], 1, "{batch}");
        let invites = keys(&server, "/invites");
        let by_path = server.received().iter().fold(BTreeMap::new(), |mut by_path, request| {
            *by_path.entry(request.path().to_owned()).or_insert(0) += 1;
            by_path
        });
        if expected == "failed" {
            assert_eq!(app.rows(&id)[0]["error"]["code"], "outcome_unknown");
            assert_eq!(invites.len(), 1, "nobody sent it again");
        } else {
            assert_eq!((invites.len(), &invites[0]), (2, &invites[1]), "repeated under its own key");
            assert_eq!(by_path["/address-links"], 1, "the earlier steps are not called again: {by_path:?}");
        }
    }
}

#[test]
fn a_settle_whose_claim_was_taken_over_changes_nothing_and_is_counted() {
    let answers = Arc::new(AtomicBool::new(false));
    let told = answers.clone();
    let server = downstream(move |_| if told.load(Ordering::SeqCst) { created() } else { Reply::Silence });
    let app = app_on(&server, "");
    let id = app.accepted(people(1));
    app.until_status(&id, "queued");
    app.post(DISPATCH, "/ops/v1/dispatch");
    app.until("the invite is under way", || (!keys(&server, "/invites").is_empty()).then_some(()));
    // As if the claim had expired and another process had it now.
    let database = rusqlite::Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
    database.busy_timeout(std::time::Duration::from_secs(10)).expect("set");
    let taken =
        database.execute("UPDATE rows SET owner = 4711, claim = 4711 WHERE status = 'processing'", []).expect("taken");
    assert_eq!(taken, 1);
    let late = || app.get(support::app::OPERATOR, "/ops/v1/overview").1["late_settles"].clone();
    assert_eq!(late(), 0);
    app.until("the late settle is counted", || (late() == 1).then_some(()));
    let (owner, status): (i64, String) = database
        .query_row("SELECT owner, status FROM rows", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("the row");
    assert_eq!((owner, status.as_str()), (4711, "processing"), "nothing was changed");
    assert!(app.log().contains("the claim was taken over"));
    answers.store(true, Ordering::SeqCst);
}
