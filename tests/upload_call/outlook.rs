//! "When?" and "why not?": the estimate and what is waited for, from the 202 on.

use serde_json::{Value, json};

use crate::{
    database, idle,
    support::{
        app::{App, DISPATCH, OPERATOR, Setup, people},
        server::{Reply, Server},
    },
};

fn with(dispatch: &str, dependency: &str) -> App {
    let dependency = format!("{dependency}\nconcurrency = 16\ntimeout = \"5s\"");
    App::start(Setup { dispatch: format!("min_interval = \"0s\"\n{dispatch}"), dependency, ..Setup::default() })
}

fn uploaded(app: &App, rows: usize) -> Value {
    let (status, batch) = app.upload(&app.key, people(rows));
    assert_eq!(status, 202, "{batch}");
    batch
}

fn id(batch: &Value) -> &str {
    batch["id"].as_str().expect("an id")
}

#[test]
fn the_answer_to_an_upload_says_when_it_will_be_done_and_so_does_the_batch() {
    let app = with("rows_per_client_per_run = 5", "rate_per_second = 2000\nburst = 50");
    let first = uploaded(&app, 12);
    // Nobody has asked for a run yet: one is expected within 60 s, and two more behind it.
    let estimate = &first["estimate"];
    assert_eq!(estimate["seconds"], 181, "{estimate}");
    assert_eq!(estimate["reason"], "client limit: 5 rows a run, a run every 60 s");
    assert!(estimate["finished_at"].as_str() > first["created_at"].as_str());
    let second = uploaded(&app, 3);
    assert_eq!(second["estimate"]["seconds"], 181, "it shares the last of them");
    let reason = "client limit: 5 rows a run, a run every 60 s; 12 rows of older batches go first";
    assert_eq!(second["estimate"]["reason"], reason);
    for batch in [&first, &second] {
        let shown = app.until_status(id(batch), "queued");
        assert_eq!(shown["estimate"]["reason"], batch["estimate"]["reason"]);
    }
    let (_, listed) = app.get(OPERATOR, "/v2/batches");
    let seconds: Vec<_> =
        listed["batches"].as_array().expect("a list").iter().map(|batch| &batch["estimate"]["seconds"]).collect();
    assert_eq!(seconds, [&json!(181), &json!(181)]);

    app.post(DISPATCH, "/ops/v1/dispatch");
    let waits = app.until("the grant is used up", || {
        Some(app.batch(id(&first))).filter(|batch| batch["counts"]["completed"] == 5)
    });
    let says = waits["waiting_for"].as_str().expect("a sentence");
    assert!(says.starts_with("client limit: 5 rows a run, next run "), "{says}");
    let seconds = waits["estimate"]["seconds"].as_u64().expect("seconds");
    assert!((60..=121).contains(&seconds), "two runs more, the first within a minute: {seconds}");
}

#[test]
fn an_estimate_falls_as_rows_are_done_and_is_gone_at_the_end() {
    let app = with("every = \"1s\"", "rate_per_second = 20");
    let batch = uploaded(&app, 60);
    // Two of the three steps call the addresses.
    assert_eq!(batch["estimate"]["reason"], "addresses allows 20 calls a second");
    let mut last = batch["estimate"]["seconds"].as_u64().expect("seconds");
    assert!((6..=9).contains(&last), "{last}");
    let finished = app.until("it is done", || {
        let batch = app.batch(id(&batch));
        let left = batch["counts"]["pending"].as_u64()? + batch["counts"]["processing"].as_u64()?;
        if let Some(seconds) = batch["estimate"]["seconds"].as_u64() {
            // What is left at the rate, and at most a run to wait for.
            assert!(seconds >= left / 10 && seconds <= left.div_ceil(10) + 2, "{left} rows in {seconds} s");
            assert!(seconds <= last + 1, "{seconds} after {last}");
            last = seconds;
        }
        (batch["status"] == "completed").then_some(batch)
    });
    assert_eq!((&finished["estimate"], &finished["waiting_for"]), (&Value::Null, &Value::Null));
}

#[test]
fn what_stands_still_has_a_reason_and_no_estimate() {
    let app = idle();
    let batch = uploaded(&app, 2);
    let batch = id(&batch);
    app.until_status(batch, "queued");
    let says = |begin: &str| {
        let batch = app.batch(batch);
        let waits = batch["waiting_for"].as_str().unwrap_or_default().to_owned();
        assert!(waits.starts_with(begin), "{waits}");
        assert_eq!(batch["estimate"], Value::Null, "{waits}");
        waits
    };
    let moves = || assert!(app.batch(batch)["estimate"]["seconds"].is_u64());
    moves();
    app.post_json(OPERATOR, "/ops/v1/dispatch/pause", &json!({ "reason": "vendor maintenance" }));
    assert!(says("dispatch is paused by root since ").ends_with(": vendor maintenance"));
    let meanwhile = uploaded(&app, 5);
    assert_eq!(meanwhile["estimate"], Value::Null, "in the answer to an upload as well");
    app.post(OPERATOR, "/ops/v1/dispatch/resume");
    app.command(&["client", "pause", "acme"]);
    says("its client is paused since ");
    app.command(&["client", "resume", "acme"]);
    app.post(&app.key, &format!("/v2/batches/{batch}/pause"));
    says("the batch is paused since ");
    app.post(&app.key, &format!("/v2/batches/{batch}/resume"));
    app.patch_json(OPERATOR, "/ops/v1/clients/acme", &json!({ "rows_per_run": 0 }));
    says("client limit: no row a run");
    app.patch_json(OPERATOR, "/ops/v1/clients/acme", &json!({ "rows_per_run": null }));
    moves();
}

#[test]
fn runs_that_do_not_come_are_told() {
    let app = with("rows_per_client_per_run = 2\nexpect_every = \"20s\"", "rate_per_second = 2000");
    let batch = uploaded(&app, 6);
    let batch = id(&batch);
    app.until_status(batch, "queued");
    app.post(DISPATCH, "/ops/v1/dispatch");
    app.until("the grant is used up", || (app.batch(batch)["counts"]["completed"] == 2).then_some(()));
    let late = |seconds: i64| {
        database(&app).execute("UPDATE runs SET at = at - ?", [seconds * 1_000]).expect("aged");
        app.batch(batch)
    };
    let due = late(40);
    assert_eq!(due["waiting_for"], "client limit: 2 rows a run, next run is due now");
    assert!(due["estimate"]["seconds"].is_u64());
    let missing = late(40);
    let says = missing["waiting_for"].as_str().expect("a sentence");
    assert!(says.starts_with("no dispatch run came since ") && says.ends_with(", and one is due every 20 s"), "{says}");
    assert_eq!(missing["estimate"], Value::Null);
    app.post(DISPATCH, "/ops/v1/dispatch");
    app.until("it goes on", || (app.batch(batch)["counts"]["completed"] == 4).then_some(()));
}

#[test]
fn an_api_that_turns_calls_away_is_named_with_its_next_try() {
    for (status, says) in [
        (429, "addresses answers 429, or 403 with Retry-After, next try "),
        (403, "addresses answers 429, or 403 with Retry-After, next try "),
        (503, "addresses answers 503, next try "),
    ] {
        let refusing =
            Server::start(move |_| Reply::Answer(status, vec![("Retry-After", "50".to_owned())], String::new()));
        let app = App::start(Setup { downstream: Some(refusing.address), ..Setup::default() });
        // Of one batch every row was turned away, of the other hardly any was tried.
        for rows in [1, 300] {
            let batch = uploaded(&app, rows);
            let told = app.until("it says what it waits for", || {
                let batch = app.batch(id(&batch));
                batch["waiting_for"].as_str().is_some_and(|told| told.starts_with(says)).then_some(batch)
            });
            let estimate = &told["estimate"];
            assert!(estimate["seconds"].as_u64().is_some_and(|seconds| seconds <= 60), "{estimate}");
            let reason = estimate["reason"].as_str().expect("a sentence");
            assert!(reason.contains(says) || reason.starts_with("its rows are tried again from "), "{reason}");
        }
    }
}
