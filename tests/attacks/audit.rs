//! Whoever did something, and wants nobody to know: what leaves no entry, what fills the audit, and entries that are altered,
//! taken out or put in by hand.

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::app::{App, DISPATCH, OPERATOR, Setup, agent, people};

fn idle() -> App {
    App::start(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() })
}

fn entries(app: &App) -> Vec<Value> {
    app.get(OPERATOR, "/ops/v1/audit?limit=1000").1["entries"].as_array().expect("entries").clone()
}

/// The newest entry of this action.
fn of(app: &App, action: &str) -> Option<Value> {
    entries(app).into_iter().find(|entry| entry["action"] == action)
}

fn sign_in(app: &App, key: &str) -> (u16, String) {
    let request = agent().post(app.url("/session")).header("Content-Type", "application/json");
    let answer = request.send(json!({ "key": key }).to_string()).expect("an answer");
    let cookie = answer.headers().get("set-cookie").and_then(|cookie| cookie.to_str().ok());
    let cookie = cookie.and_then(|cookie| cookie.split(';').next()).unwrap_or_default();
    (answer.status().as_u16(), cookie.to_owned())
}

#[test]
fn what_has_consequences_leaves_an_entry_by_every_door() {
    let app = App::start(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() });
    let id = app.accepted(people(3));
    app.until_status(&id, "queued");

    let (status, cookie) = sign_in(&app, &app.key);
    let entry = of(&app, "session.open").expect("an entry");
    assert_eq!((status, &entry["who"], &entry["from"]), (200, &json!("client:acme"), &json!("127.0.0.1")));
    let request = agent().delete(app.url("/session")).header("Cookie", &cookie);
    let request = request.header("X-Dripfeed", "page").header("Origin", app.url(""));
    assert_eq!(request.call().expect("an answer").status(), 204);
    assert_eq!(of(&app, "session.end").expect("an entry")["who"], "client:acme");

    assert_eq!(app.post(DISPATCH, "/ops/v1/dispatch").0, 200);
    assert!(of(&app, "dispatch.run").is_none(), "the clock's runs have a list of their own");
    assert_eq!(app.post(OPERATOR, "/ops/v1/dispatch").0, 200);
    let entry = of(&app, "dispatch.run").expect("an entry");
    assert!(entry["who"] == "root" && entry["why"].as_str().is_some_and(|why| why.starts_with("run 2: ")), "{entry}");

    app.until_status(&id, "completed");
    Connection::open(app.data_dir().join("dripfeed.db"))
        .and_then(|database| {
            database.busy_timeout(std::time::Duration::from_secs(10))?;
            database.execute_batch(
                "UPDATE rows SET status = 'failed', error_code = 'rejected', error_status = 422, error = x'00';
                 UPDATE batches SET completed = 0, failed = 3;
                 INSERT INTO failures SELECT batch, 0, 'rejected', 422, 3, 1 FROM batches",
            )
        })
        .expect("as if a vendor had refused them");
    let retried = app.command(&["batch", "retry", &id, "--code", "rejected"]);
    assert!(retried.status.success(), "{retried:?}");
    let events = String::from_utf8_lossy(&retried.stderr).into_owned();
    assert!(
        events.contains("\"event\":\"batch.retried\""),
        "a command leaves the event that a request would: {events}"
    );
    let entry = of(&app, "batch.retry").expect("an entry");
    assert!(entry["from"] == "command" && entry["why"] == "rows of code rejected", "{entry}");

    let second = app.accepted(people(4));
    assert_eq!(app.post(&app.key, &format!("/v2/batches/{second}/cancel")).0, 200);
    app.until_status(&second, "cancelled");
    assert_eq!(app.delete(&app.key, &format!("/v2/batches/{second}")).0, 200);
    for action in ["batch.cancel", "batch.delete"] {
        let entry = of(&app, action).expect("an entry");
        assert_eq!((&entry["who"], &entry["target"]), (&json!("client:acme"), &json!(second)), "{entry}");
    }

    let output = app.command(&["client", "key", "add", "acme", "night-job", "--json"]);
    let job: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(app.post(job["key"].as_str().expect("a key"), &format!("/v2/batches/{id}/cancel")).0, 200);
    let entry = of(&app, "batch.cancel").expect("an entry");
    assert_eq!((&entry["who"], &entry["target"]), (&json!("client:acme/night-job"), &json!(id)), "which key it was");
    // A session is its client's, whichever key it was opened with: all of them are ended by one name.
    assert_eq!(sign_in(&app, job["key"].as_str().expect("a key")).0, 200);
    assert_eq!(of(&app, "session.open").expect("an entry")["who"], "client:acme/night-job");
    let ended = app.command(&["sessions", "end", "--of", "client:acme"]);
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "1 sessions have ended\n");

    app.signal(Signal::HUP);
    let entry = app.until("the signal is noted", || of(&app, "keys.reload"));
    assert_eq!((&entry["who"], &entry["from"]), (&json!("SIGHUP"), &json!("server")));
    std::fs::write(app.folder.path().join("keys"), "nonsense").expect("written");
    app.signal(Signal::HUP);
    app.until("so is one that is refused", || {
        of(&app, "keys.reload").filter(|entry| entry["why"].as_str().is_some_and(|why| why.starts_with("refused")))
    });
}

#[test]
fn what_changes_nothing_leaves_no_entry_by_either_door() {
    let app = idle();
    assert!(app.command(&["operator", "add", "ann"]).status.success());
    let id = app.accepted(people(3));
    app.until_status(&id, "queued");
    let batch = |act: &str| format!("/v2/batches/{id}/{act}");
    let client = || "/ops/v1/clients/acme".to_owned();
    let reason = json!({ "reason": "lunch" });
    for (path, body, command) in [
        (client(), json!({ "paused": true }), &["client", "pause", "acme"][..]),
        (client(), json!({ "paused": false }), &["client", "resume", "acme"]),
        (client(), json!({ "rows_per_run": 7 }), &["client", "limit", "acme", "--rows-per-run", "7"]),
        (client(), json!({ "workflows": ["invite"] }), &["client", "limit", "acme", "--workflows", "invite"]),
        (client(), json!({ "quotas": { "batches": 9 } }), &["client", "limit", "acme", "--batches", "9"]),
        (
            "/ops/v1/dependencies/addresses".to_owned(),
            json!({ "rate_per_second": 7 }),
            &["dependency", "rate", "addresses", "7"],
        ),
        ("/ops/v1/dispatch/pause".to_owned(), reason.clone(), &["dispatch", "pause", "--reason", "lunch"]),
        ("/ops/v1/dispatch/pause".to_owned(), json!({ "reason": "tea" }), &["dispatch", "pause"]),
        ("/ops/v1/dispatch/resume".to_owned(), json!({}), &["dispatch", "resume"]),
        (batch("pause"), reason.clone(), &["batch", "pause", &id]),
        (batch("resume"), json!({}), &["batch", "resume", &id]),
    ] {
        let before = entries(&app).len();
        let ask = || match path.starts_with("/ops/v1/clients") || path.starts_with("/ops/v1/dependencies") {
            true => app.patch_json(OPERATOR, &path, &body),
            false => app.post_json(OPERATOR, &path, &body),
        };
        let (status, first) = ask();
        assert_eq!((status, entries(&app).len()), (200, before + 1), "{path} {body}: {first}");
        let told = app.events().len();
        assert_eq!(ask().0, 200, "it is a success all the same: {path} {body}");
        let again = app.command(command);
        assert!(again.status.success(), "{again:?}");
        assert_eq!(entries(&app).len(), before + 1, "{path} {body} and {command:?}");
        let news = app.events().split_off(told);
        let news: Vec<_> = news.iter().filter(|event| event["event"] != "request.answered").collect();
        assert!(news.is_empty(), "{news:?}");
    }
    let role = ["operator", "role", "ann", "viewer"];
    let [first, again] = [(); 2].map(|()| app.command(&role));
    assert!(first.status.success() && again.status.success(), "{again:?}");
    assert_eq!(String::from_utf8_lossy(&again.stdout), "ann is viewer already; nothing was changed\n");
    assert_eq!(entries(&app).iter().filter(|entry| entry["action"] == "operator.role").count(), 1);
}

#[test]
fn what_has_ended_for_good_is_neither_paused_nor_set_going() {
    let app = idle();
    let id = app.accepted(people(3));
    assert_eq!(app.post(&app.key, &format!("/v2/batches/{id}/cancel")).0, 200);
    app.until_status(&id, "cancelled");
    let before = entries(&app).len();
    for act in ["pause", "resume"] {
        let (status, problem) = app.post(OPERATOR, &format!("/v2/batches/{id}/{act}"));
        assert_eq!((status, &problem["code"]), (409, &json!("conflict")), "{act}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("cancelled already")), "{problem}");
        let command = app.command(&["batch", act, &id]);
        assert_eq!(command.status.code(), Some(1), "{command:?}");
    }
    assert_eq!((entries(&app).len(), &app.batch(&id)["paused"]), (before, &json!(false)));
}

#[test]
fn wrong_keys_are_told_with_their_address_and_fill_nothing() {
    let mut app = idle();
    assert_eq!(entries(&app).len(), 1);
    for number in 0..40 {
        let (status, _) = app.get(&format!("guess-{number}"), "/v2/batches");
        assert!([401, 429].contains(&status));
        sign_in(&app, &format!("guess-{number}"));
    }
    let entry = app.until("they are told", || of(&app, "sign-in.failed"));
    assert_eq!((&entry["who"], &entry["from"]), (&json!("unknown"), &json!("127.0.0.1")));
    let refused = |event: &Value| event["event"] == "request.answered" && event["status"] == 401;
    let events = app.events();
    let refused: Vec<_> = events.iter().filter(|event| refused(event)).collect();
    assert!(!refused.is_empty() && refused.iter().all(|event| event["origin"] == "127.0.0.1"), "{refused:?}");
    assert!(!app.log().contains("guess-"), "no key stands in the log");
    // Somebody who comes and goes all the time, with a key that is good.
    for _ in 0..20 {
        assert_eq!(sign_in(&app, &app.key).0, 200);
    }
    let told = entries(&app);
    let of = |action: &str| told.iter().filter(|entry| entry["action"] == action).count();
    assert!(of("sign-in.failed") <= 2 && of("session.open") == 1, "{told:?}");
    assert_eq!(app.terminate(), Some(0));
    let noted = Connection::open(app.data_dir().join("dripfeed.db"))
        .and_then(|database| {
            let mut statement =
                database.prepare("SELECT why FROM audit WHERE action = 'sign-in.failed' ORDER BY entry")?;
            statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
        })
        .expect("read");
    let numbers = noted.iter().flat_map(|why| why.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok()));
    assert_eq!(numbers.sum::<u64>(), 80, "all of them are counted when the server ends: {noted:?}");
}

#[test]
fn an_entry_that_is_altered_taken_out_or_put_in_is_told() {
    let mut app = idle();
    for number in 0..6 {
        app.post_json(OPERATOR, "/ops/v1/dispatch/pause", &json!({ "reason": format!("reason {number}") }));
    }
    let hashes: Vec<_> = app.events().into_iter().filter(|event| event["event"] == "audit.noted").collect();
    let kept = hashes[2]["hash"].as_str().expect("a hash").to_owned();
    app.terminate();
    let path = app.data_dir().join("dripfeed.db");
    let verify = |more: &[&str]| {
        let output = app.command(&[&["audit", "verify", "--json"], more].concat());
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), told)
    };
    let (status, told) = verify(&["--contains", &kept]);
    assert_eq!((status, &told["contains"], &told["faults"]), (Some(0), &json!(true), &json!([])), "{told}");
    let checkpoint = |database: Connection| database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    Connection::open(&path).and_then(checkpoint).expect("all of it is in the file");
    let before = std::fs::read(&path).expect("a database");
    for (attack, fault) in [
        ("UPDATE audit SET who = 'somebody else' WHERE entry = 3", "entry 3 was altered"),
        ("UPDATE audit SET at = at + 1 WHERE entry = 4", "entry 4 was altered"),
        ("UPDATE audit SET why = NULL WHERE entry = 4", "entry 4 was altered"),
        ("UPDATE audit SET who = who || action, action = '' WHERE entry = 4", "entry 4 was altered"),
        ("UPDATE audit SET hash = zeroblob(32) WHERE entry = 4", "entry 4 was altered"),
        ("DELETE FROM audit WHERE entry = 1", "entry 1 is missing"),
        ("DELETE FROM audit WHERE entry IN (3, 4)", "entries 3 to 4 are missing"),
        ("DELETE FROM audit WHERE entry = (SELECT max(entry) FROM audit)", "entry 7 is missing"),
        ("DELETE FROM audit", "entries 1 to 7 are missing"),
        (
            "INSERT INTO audit (at, who, action, origin, hash) VALUES (1, 'x', 'x', 'x', zeroblob(32))",
            "entry 8 was put in by somebody else",
        ),
        ("UPDATE audit_chain SET last_hash = zeroblob(32)", "entry 7 is not the one that was noted last"),
        (
            "CREATE TEMP TABLE a AS SELECT * FROM audit WHERE entry = 3;
             UPDATE audit SET (who, why, hash) = (SELECT who, why, hash FROM audit WHERE entry = 4) WHERE entry = 3;
             UPDATE audit SET (who, why, hash) = (SELECT who, why, hash FROM a) WHERE entry = 4",
            "entry 3 was altered",
        ),
    ] {
        Connection::open(&path).and_then(|database| database.execute_batch(attack)).expect(attack);
        let (status, told) = verify(&[]);
        assert!(status == Some(1) && told["faults"][0].as_str().expect(attack).contains(fault), "{attack}: {told}");
        let doctor = app.command(&["doctor"]);
        assert!(String::from_utf8_lossy(&doctor.stdout).contains(fault), "{attack}: {doctor:?}");
        std::fs::write(&path, &before).expect("as it was");
        for beside in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(app.data_dir().join(format!("dripfeed.db{beside}")));
        }
    }
    // Whoever makes the chain anew without an entry has another chain than the one whose hash was kept.
    let other = kept.chars().rev().collect::<String>();
    let (status, told) = verify(&["--contains", &other]);
    assert_eq!((status, &told["contains"]), (Some(1), &json!(false)), "{told}");
    // An entry that was put in stops nobody.
    let put_in = "INSERT INTO audit (at, who, action, origin, hash) VALUES (1, 'x', 'x', 'x', zeroblob(32))";
    Connection::open(&path).and_then(|database| database.execute_batch(put_in)).expect("put in");
    app.serve();
    assert_eq!(app.post(OPERATOR, "/ops/v1/dispatch/resume").0, 200);
    assert_eq!(app.command(&["audit", "verify"]).status.code(), Some(1));
}
