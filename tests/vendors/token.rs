//! A credential that dies in mid batch costs a few rows, and not the rest of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::json;

use crate::{
    support::server::{Server, status},
    zoo::{
        QUICK, add_client, api, app, created, dependency_of, domain, ended, ends, gate_is_open, pass, people, upload,
        who, with,
    },
};

/// What a batch pauses itself by, where nobody says otherwise.
const COSTS: u64 = 50;
/// Rows that may be under way when it does.
const UNDER_WAY: u64 = 40;

/// Refuses a client's rows from some time on, as for a permission that was taken away, or for an account that is closed.
#[test]
fn a_permission_that_ends_after_most_rows_costs_fifty_of_them_and_nobody_elses() {
    const WELL: usize = 600;
    let taken = AtomicUsize::new(0);
    let server = Server::start(move |request| match domain(request).as_str() {
        "dies.example" if taken.fetch_add(1, SeqCst) >= WELL => status(403),
        _ => created(request),
    });
    let app = app(&[api("crm", &server, QUICK, "", "")]);
    let (dies, lives) = (app.key.clone(), add_client(&app, "lives"));
    let of_dead = upload(&app, &dies, "crm", &people("dies.example", 1_000));
    let other = upload(&app, &lives, "crm", &people("lives.example", 400));

    let paused = |times: usize| {
        app.until("it pauses itself", || {
            let events = app.log().matches("batch.paused_itself").count();
            Some(app.batch_of(&dies, &of_dead)).filter(|batch| batch["paused"] == true && events == times)
        });
        app.until("what is under way has ended", || {
            Some(app.batch_of(&dies, &of_dead)).filter(|batch| batch["counts"]["processing"] == 0)
        })
    };
    let failed_of = |batch: &serde_json::Value| batch["counts"]["failed"].as_u64().expect("a count");
    let batch = paused(1);
    assert_eq!(batch["counts"]["completed"], WELL);
    let first = failed_of(&batch);
    assert!((COSTS..=COSTS + UNDER_WAY).contains(&first), "{batch}");
    assert!(app.log().contains("50 of its last 100 rows failed, the last one with `rejected` (HTTP 403) at crm"));

    // Who lets it go on without having mended it pays as much again, and no more.
    assert_eq!(app.post(&dies, &format!("/v2/batches/{of_dead}/resume")).0, 200);
    let again = failed_of(&paused(2)) - first;
    assert!((COSTS..=COSTS + UNDER_WAY).contains(&again), "{again}");
    let other = ended(&app, &lives, &other);
    assert_eq!((&other["counts"]["completed"], &other["paused"]), (&400.into(), &false.into()));
}

/// What may leave after the credential died: five in a row, what was under way beside them, and a few probes.
const DEAD_CALLS: usize = 5 + 32 + 8;

#[test]
fn a_credential_that_dies_costs_no_row_and_closes_the_gate() {
    const WELL: usize = 150;
    let (taken, is_mended) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
    let mended = is_mended.clone();
    let server = Server::start(move |request| match taken.fetch_add(1, SeqCst) < WELL || mended.load(SeqCst) {
        true => created(request),
        false => status(401),
    });
    let healthy = Server::start(created);
    let app = app(&[api("crm", &server, QUICK, "", ""), api("other", &healthy, QUICK, "", "")]);
    let other_client = add_client(&app, "globex");
    let (one, two) = (app.key.clone(), other_client.clone());
    let batches = [
        upload(&app, &one, "crm", &people("one.example", 300)),
        upload(&app, &two, "crm", &people("two.example", 300)),
    ];
    app.until("its gate is closed", || (!gate_is_open(&app, "crm")).then_some(()));
    let gate = dependency_of(&app, "crm")["gate"].clone();
    assert!(gate["reason"].as_str().is_some_and(|reason| reason.contains("401")), "{gate}");
    let other = upload(&app, &one, "other", &people("other.example", 40));
    assert_eq!(ended(&app, &one, &other)["counts"]["completed"], 40, "nobody else is held up");
    pass(Duration::from_secs(5));
    let calls = server.calls() - WELL;
    assert!((5..=DEAD_CALLS).contains(&calls), "{calls} calls with a credential that nobody takes");
    for (key, id) in [(&one, &batches[0]), (&two, &batches[1])] {
        let batch = app.batch_of(key, id);
        assert_eq!((&batch["counts"]["failed"], &batch["paused"]), (&json!(0), &json!(false)), "{batch}");
        let waits_for = batch["waiting_for"].as_str().expect("a sentence");
        assert!(waits_for.contains("crm answers 401 to its credential"), "{waits_for}");
    }
    let refused = server.received().iter().skip(WELL).fold(std::collections::BTreeMap::new(), |mut rows, request| {
        *rows.entry(request.body.clone()).or_insert(0) += 1;
        rows
    });
    assert!(refused.values().all(|times| *times <= 2), "each probe takes another row: {refused:?}");
    is_mended.store(true, SeqCst);
    for (key, id) in [(&one, &batches[0]), (&two, &batches[1])] {
        assert_eq!(ended(&app, key, id)["counts"]["completed"], 300);
    }
}

#[test]
fn a_row_that_is_refused_while_others_are_not_is_rejected() {
    const REFUSED: [&str; 3] = ["p7", "p40", "p41"];
    let server = Server::start(move |request| match REFUSED.contains(&who(request).as_str()) {
        true => status(401),
        false => created(request),
    });
    let slow = "rate_per_second = 20\nburst = 1\ntimeout = \"5s\"";
    let app = app(&[api("crm", &server, slow, "", "")]);
    let id = upload(&app, &app.key, "crm", &people("acme.example", 120));
    let done = ended(&app, &app.key, &id);
    assert_eq!((&done["counts"]["completed"], &done["counts"]["failed"]), (&json!(117), &json!(3)));
    for (email, end) in ends(&app, &id) {
        let is_refused = REFUSED.iter().any(|name| email == format!("{name}@acme.example"));
        assert_eq!(end, if is_refused { "rejected" } else { "completed" }, "{email}");
    }
    let error = app.rows(&id)[6]["error"].clone();
    assert_eq!((&error["http_status"], &error["code"]), (&json!(401), &json!("rejected")), "{error}");
}

#[test]
fn a_row_whose_time_is_up_before_the_credential_is_mended_fails_as_unauthorized() {
    let server = Server::start(|_| status(401));
    let other = Server::start(|_| with(403, "Retry-After", "1"));
    let keys = "give_up_after = \"3s\"";
    let app = app(&[api("crm", &server, QUICK, keys, ""), api("busy", &other, QUICK, keys, "")]);
    let ids = [
        (upload(&app, &app.key, "crm", &people("acme.example", 3)), "unauthorized"),
        (upload(&app, &app.key, "busy", &people("acme.example", 1)), "rate_limited"),
    ];
    for (id, code) in ids {
        assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], 0);
        assert!(ends(&app, &id).values().all(|end| end == code), "{code}: {:?}", ends(&app, &id));
    }
}
