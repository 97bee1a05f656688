//! The values are what everybody else sees: the user, the downstream, the database.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;

use super::{
    dispatch,
    format::Scrape,
    idle, scrape, seen,
    support::{
        app::{App, OPERATOR, Setup, people},
        server::{Reply, Server, ok, status},
    },
};

const INVITE: [(&str, &str); 1] = [("workflow", "invite")];

fn number(value: &serde_json::Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn rows(scrape: &Scrape, status: &str) -> f64 {
    scrape.value("dripfeed_rows", &[("workflow", "invite"), ("status", status)])
}

fn batches(scrape: &Scrape, status: &str) -> f64 {
    scrape.value("dripfeed_batches", &[("workflow", "invite"), ("status", status)])
}

fn calls(scrape: &Scrape, dependency: &str, outcome: &str) -> f64 {
    scrape.value("dripfeed_calls_total", &[("dependency", dependency), ("outcome", outcome)])
}

fn uploads(scrape: &Scrape, outcome: &str) -> f64 {
    scrape.value("dripfeed_uploads_total", &[("workflow", "invite"), ("outcome", outcome)])
}

/// A downstream whose every call succeeds, unless `reply` says otherwise.
fn downstream(reply: impl Fn() -> Option<Reply> + Send + Sync + 'static) -> Server {
    Server::start(move |request| {
        reply().unwrap_or_else(|| match request.path() {
            "/address-links" => ok(r#"{"link": "l"}"#),
            "/addresses" => ok(r#"{"addresses": [{"id": "a"}]}"#),
            _ => ok(r#"{"check_id": "c"}"#),
        })
    })
}

#[test]
fn uploads_rows_and_calls_are_what_the_user_and_the_downstream_count() {
    let app = App::start(Setup { dispatch: Setup::default().dispatch, ..idle() });
    let globex = app.add_client("globex", None);
    // Of acme's rows three are rejected by the last step, and two find no address at the second one.
    let ours = people(20)
        .replace("p2@mail.example", "p2@rejected.example")
        .replace("p3@mail.example", "p3@rejected.example")
        .replace("p4@mail.example", "p4@rejected.example")
        .replace("AB1 2CD,7\n", "AB1 2CD,0\n")
        .replace("AB1 2CD,6\n", "AB1 2CD,0\n");
    let theirs = people(7).replace("p1@", "z1@");
    let first = app.accepted(&ours);
    let (status, second) = app.upload(&globex, &theirs);
    assert_eq!(status, 202, "{second}");
    let second = second["id"].as_str().expect("an id").to_owned();
    assert_eq!(app.upload(&app.key, &ours).0, 409, "a duplicate");
    assert_eq!(app.upload(&app.key, "email\nx\n").0, 422);
    let path = "/v2/client/users/batch/invite?validate_only=true";
    assert_eq!(app.upload_as(&app.key, path, &[("Content-Type", "text/csv")], people(3).as_bytes()).0, 200);
    let first = app.until_status(&first, "completed");
    app.until("theirs is done", || (app.batch_of(&globex, &second)["status"] == "completed").then_some(()));
    assert_eq!((&first["counts"]["completed"], &first["counts"]["failed"]), (&json!(15), &json!(5)));

    let scrape = scrape(&app);
    for (outcome, expected) in [("accepted", 2.0), ("duplicate_file", 1.0), ("invalid_file", 1.0), ("validated", 1.0)] {
        assert_eq!(uploads(&scrape, outcome), expected, "{outcome}");
    }
    assert_eq!(scrape.value("dripfeed_upload_rows_total", &INVITE), 27.0);
    assert_eq!(scrape.value("dripfeed_upload_bytes_total", &INVITE), (ours.len() + theirs.len()) as f64);
    assert_eq!(scrape.value("dripfeed_extractions_total", &[("outcome", "queued")]), 2.0);
    assert_eq!(scrape.value("dripfeed_extracted_rows_total", &[]), 27.0);
    assert!(scrape.value("dripfeed_extracted_bytes_total", &[]) > 27.0 * 28.0, "sealed rows");

    assert_eq!(scrape.value("dripfeed_rows_completed_total", &INVITE), 22.0);
    let failed = |step, code| {
        scrape.value("dripfeed_rows_failed_total", &[("workflow", "invite"), ("step", step), ("code", code)])
    };
    assert_eq!((failed("invite-create", "rejected"), failed("get-addresses", "bad_answer")), (3.0, 2.0));
    assert_eq!(scrape.sum("dripfeed_rows_failed_total", &[]), 5.0);

    let stats = app.stats();
    let of_addresses = (stats.calls.address_links + stats.calls.get_addresses) as f64;
    assert_eq!(calls(&scrape, "addresses", "success"), of_addresses - 2.0);
    assert_eq!(calls(&scrape, "addresses", "bad_answer"), 2.0);
    assert_eq!(calls(&scrape, "invites", "success"), 22.0);
    assert_eq!(calls(&scrape, "invites", "rejected"), 3.0);
    for dependency in ["addresses", "invites"] {
        let labels = [("dependency", dependency)];
        let ended = scrape.sum("dripfeed_calls_total", &labels);
        assert_eq!(scrape.value("dripfeed_call_duration_seconds_count", &labels), ended);
        assert_eq!(scrape.value("dripfeed_permit_wait_seconds_count", &labels), ended, "a permit for each call");
        assert_eq!(scrape.value("dripfeed_calls_in_flight", &labels), 0.0);
        assert_eq!(scrape.value("dripfeed_gate_open", &labels), 1.0);
        assert_eq!(scrape.value("dripfeed_call_rate_limit", &labels), 2_000.0);
        assert_eq!(scrape.value("dripfeed_call_rate_adapted", &labels), 2_000.0);
        assert_eq!(scrape.value("dripfeed_call_concurrency_limit", &labels), 16.0);
    }
    for status in ["pending", "processing", "completed", "failed", "cancelled"] {
        assert_eq!(rows(&scrape, status), 0.0, "no batch is unfinished");
    }
    let of_uploads = [("route", "upload"), ("status", "4xx")];
    assert_eq!(scrape.value("dripfeed_http_requests_total", &of_uploads), 2.0);
    assert!(scrape.value("dripfeed_http_request_duration_seconds_count", &[("route", "/v2/batches/ID")]) > 1.0);
}

#[test]
fn what_waits_is_counted_and_aged_until_it_is_done() {
    let app = App::start(Setup {
        dispatch: "min_interval = \"1h\"\nrows_per_client_per_run = 8\nexpect_every = \"90s\"".into(),
        // Nothing but the burst leaves.
        dependency: "rate_per_second = 0.001\nburst = 2".into(),
        ..idle()
    });
    let globex = app.add_client("globex", Some(3));
    let before = scrape(&app);
    assert_eq!(before.value("dripfeed_dispatch_last_run_timestamp_seconds", &[]), 0.0, "never");
    assert_eq!(before.value("dripfeed_oldest_pending_age_seconds", &[("stage", "dispatch")]), 0.0);
    assert_eq!(before.value("dripfeed_last_backup_timestamp_seconds", &[]), 0.0, "none");
    let first = app.accepted(people(20));
    let (_, second) = app.upload(&globex, people(5));
    let second = second["id"].as_str().expect("an id").to_owned();
    app.until_status(&first, "queued");
    app.until("theirs is queued", || (app.batch_of(&globex, &second)["status"] == "queued").then_some(()));
    let waiting = scrape(&app);
    assert_eq!(
        (rows(&waiting, "pending"), batches(&waiting, "queued"), batches(&waiting, "pending")),
        (25.0, 2.0, 0.0)
    );
    assert_eq!(waiting.value("dripfeed_rows_unextracted", &INVITE), 0.0);
    let age = |scrape: &Scrape| scrape.value("dripfeed_oldest_pending_age_seconds", &[("stage", "dispatch")]);
    assert!(age(&waiting) > 0.0 && age(&waiting) < 60.0, "{}", age(&waiting));
    app.until("it grows older", || (age(&scrape(&app)) > age(&waiting)).then_some(()));

    assert_eq!((dispatch(&app).as_str(), dispatch(&app).as_str()), ("granted", "too_early"));
    let run = seen(&app, "/ops/v1/dispatch/runs")["runs"][0].clone();
    let working = app.until("the burst is used up", || {
        let scrape = scrape(&app);
        (scrape.sum("dripfeed_calls_total", &[("dependency", "addresses")]) == 2.0).then_some(scrape)
    });
    assert_eq!(working.value("dripfeed_dispatch_last_run_rows", &[]), number(&run["rows"]));
    assert_eq!(working.value("dripfeed_dispatch_granted_rows_total", &[]), 11.0);
    assert_eq!(working.value("dripfeed_dispatch_last_run_clients", &[]), 2.0);
    assert!(working.value("dripfeed_dispatch_remaining_rows", &[]) <= 11.0);
    let last = working.value("dripfeed_dispatch_last_run_timestamp_seconds", &[]);
    let told: jiff::Timestamp = run["at"].as_str().expect("a time").parse().expect("RFC 3339");
    assert!((last - told.as_millisecond() as f64 / 1_000.0).abs() < 0.01, "{last} {told}");
    assert_eq!(working.value("dripfeed_dispatch_expected_interval_seconds", &[]), 90.0);
    let runs = |scrape: &Scrape, outcome| scrape.value("dripfeed_dispatch_runs_total", &[("outcome", outcome)]);
    assert_eq!((runs(&working, "granted"), runs(&working, "too_early"), runs(&working, "paused")), (1.0, 1.0, 0.0));

    assert_eq!(app.post(OPERATOR, "/ops/v1/dispatch/pause").0, 200);
    assert_eq!(dispatch(&app), "paused");
    for id in [&first, &second] {
        assert_eq!(app.post(OPERATOR, &format!("/v2/batches/{id}/pause")).0, 200);
    }
    let paused = scrape(&app);
    assert_eq!((paused.value("dripfeed_dispatch_paused", &[]), runs(&paused, "paused")), (1.0, 1.0));
    assert_eq!(paused.value("dripfeed_batches_paused", &INVITE), 2.0);
    assert_eq!(age(&paused), 0.0, "what is paused does not wait");
    let counts = [&first, &second].map(|id| {
        app.until("nothing moves", || {
            let counts = app.get(OPERATOR, &format!("/v2/batches/{id}")).1["counts"].clone();
            (counts["processing"] == 0).then_some(counts)
        })
    });
    let settled = scrape(&app);
    for status in ["pending", "processing", "completed", "failed", "cancelled"] {
        let seen: f64 = counts.iter().map(|counts| number(&counts[status])).sum();
        assert_eq!(rows(&settled, status), seen, "{status}");
    }
}

#[test]
fn rows_that_get_no_permit_are_counted_as_given_back() {
    let is_held = Arc::new(AtomicBool::new(true));
    let held = is_held.clone();
    let server = downstream(move || {
        while held.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        None
    });
    let app = App::start(Setup {
        downstream: Some(server.address),
        dependency: "rate_per_second = 2000\ntimeout = \"60s\"".into(),
        ..idle()
    });
    let id = app.accepted(people(3));
    app.until_status(&id, "queued");
    dispatch(&app);
    app.until("three calls are under way", || {
        (scrape(&app).value("dripfeed_calls_in_flight", &[("dependency", "addresses")]) == 3.0).then_some(())
    });
    // All three need the next slot for their second step, and there is one in a thousand seconds.
    let slow = app.patch_json(OPERATOR, "/ops/v1/dependencies/addresses", &json!({"rate_per_second": 0.001}));
    assert_eq!(slow.0, 200, "{}", slow.1);
    is_held.store(false, Ordering::SeqCst);
    let refused = app.until("two are given back", || {
        let scrape = scrape(&app);
        (scrape.value("dripfeed_rows_released_total", &INVITE) >= 2.0).then_some(scrape)
    });
    let of = |reason| [("dependency", "addresses"), ("reason", reason)];
    assert!(refused.value("dripfeed_permits_refused_total", &of("rate")) >= 2.0);
    assert_eq!(refused.value("dripfeed_permits_refused_total", &of("gate")), 0.0);
    assert!(refused.value("dripfeed_permits_waiting", &[("dependency", "addresses")]) <= 3.0);
}

#[test]
fn a_gate_that_closes_is_told_with_its_reason_and_so_is_another_rate() {
    let is_away = Arc::new(AtomicBool::new(true));
    let away = is_away.clone();
    let server = downstream(move || away.load(Ordering::SeqCst).then(|| status(503)));
    let app = App::start(Setup { dispatch: Setup::default().dispatch, downstream: Some(server.address), ..idle() });
    let id = app.accepted(people(4));
    let addresses = [("dependency", "addresses")];
    let closed = app.until("the gate is closed", || {
        let scrape = scrape(&app);
        (scrape.value("dripfeed_gate_open", &addresses) == 0.0).then_some(scrape)
    });
    let closings = |scrape: &Scrape, dependency, reason| {
        scrape.value("dripfeed_gate_closings_total", &[("dependency", dependency), ("reason", reason)])
    };
    assert!(closings(&closed, "addresses", "unavailable") >= 1.0);
    assert_eq!(closings(&closed, "addresses", "failing"), 0.0);
    assert_eq!(closings(&closed, "invites", "unavailable"), 0.0);
    assert_eq!(closed.value("dripfeed_gate_open", &[("dependency", "invites")]), 1.0);
    is_away.store(false, Ordering::SeqCst);
    app.until_status(&id, "completed");
    let open = scrape(&app);
    assert_eq!(open.value("dripfeed_gate_open", &addresses), 1.0);
    let received = server.received().len() as f64;
    assert_eq!(open.sum("dripfeed_calls_total", &[]), received, "every request that the downstream saw");
    assert_eq!(calls(&open, "addresses", "unavailable"), received - 12.0, "12 of them did something");
    let changed = app.patch_json(OPERATOR, "/ops/v1/dependencies/addresses", &json!({"rate_per_second": 12.5}));
    assert_eq!(changed.0, 200, "{}", changed.1);
    assert_eq!(scrape(&app).value("dripfeed_call_rate_limit", &addresses), 12.5);
}

#[test]
fn rows_that_fail_too_often_pause_their_batch_and_that_is_counted() {
    let app = App::start(Setup { dispatch: Setup::default().dispatch, ..idle() });
    let id = app.accepted(people(200).replace("mail.example", "rejected.example"));
    app.until("it pauses itself", || app.batch(&id)["paused"].as_bool().filter(|paused| *paused));
    let scrape = scrape(&app);
    assert_eq!(scrape.value("dripfeed_batches_auto_paused_total", &[]), 1.0);
    assert_eq!(scrape.value("dripfeed_batches_paused", &INVITE), 1.0);
}

#[test]
fn a_lost_server_a_stuck_row_and_a_late_settle_are_counted() {
    let is_silent = Arc::new(AtomicBool::new(true));
    let silent = is_silent.clone();
    let server = downstream(move || silent.load(Ordering::SeqCst).then_some(Reply::Silence));
    let mut app = App::start(Setup {
        downstream: Some(server.address),
        workers: "under_way = 64\nauto_rescue = false\nclaim_ttl = \"1s\"".into(),
        dependency: "rate_per_second = 2000\nburst = 50\ntimeout = \"2s\"".into(),
        ..idle()
    });
    let id = app.accepted(people(3));
    app.until_status(&id, "queued");
    dispatch(&app);
    app.until("three calls are under way", || (server.received().len() == 3).then_some(()));
    let under_way = scrape(&app);
    assert_eq!(under_way.value("dripfeed_calls_in_flight", &[("dependency", "addresses")]), 3.0);
    assert_eq!(rows(&under_way, "processing"), 3.0);
    app.kill();
    app.serve();
    let freed = scrape(&app);
    let of = |kind, reason| [("kind", kind), ("reason", reason)];
    assert_eq!(freed.value("dripfeed_claims_freed_total", &of("row", "dead_server")), 3.0);
    assert_eq!(freed.value("dripfeed_claims_freed_total", &of("row", "expired")), 0.0);
    assert_eq!(freed.value("dripfeed_late_settles_total", &[]), 0.0);

    dispatch(&app);
    app.until("they are under way again", || (server.received().len() == 6).then_some(()));
    // As if one's claim had expired and another process had it now, which then went silent.
    let database = rusqlite::Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
    database.busy_timeout(Duration::from_secs(10)).expect("set");
    let steal = "UPDATE rows SET owner = 4711, claim = 4711, claim_expires_at = 1 WHERE (row & 16777215) = 1";
    assert_eq!(database.execute(steal, []).expect("taken"), 1);
    let stuck = app.until("the late settle is counted", || {
        let scrape = scrape(&app);
        (scrape.value("dripfeed_late_settles_total", &[]) == 1.0).then_some(scrape)
    });
    assert_eq!(stuck.value("dripfeed_stuck_claims", &[("kind", "row")]), 1.0);
    assert_eq!(number(&seen(&app, "/ops/v1/overview")["late_settles"]), 1.0);
    assert!(app.command(&["stuck"]).status.code().is_some());
    is_silent.store(false, Ordering::SeqCst);
    let (status, answer) = app.post_json(OPERATOR, "/ops/v1/stuck/reconcile", &json!({"apply": true}));
    assert_eq!(status, 200, "{answer}");
    let mended = scrape(&app);
    assert_eq!(mended.value("dripfeed_stuck_claims", &[("kind", "row")]), 0.0);
    assert_eq!(mended.value("dripfeed_claims_freed_total", &of("row", "expired")), 1.0);
}

#[test]
fn announcements_and_backups_are_told() {
    let app = App::start(Setup { dispatch: Setup::default().dispatch, ..idle() });
    let left = Arc::new(AtomicU64::new(1));
    let receiver = Server::start(move |_| {
        let refuse = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        status(if refuse { 503 } else { 204 })
    });
    assert!(app.command(&["client", "webhook", "acme", "--url", &receiver.url()]).status.success());
    let id = app.accepted(people(2));
    app.until_status(&id, "completed");
    let attempts = |scrape: &Scrape, outcome| scrape.value("dripfeed_webhook_attempts_total", &[("outcome", outcome)]);
    let told = app.until("it is delivered", || {
        let scrape = scrape(&app);
        (attempts(&scrape, "delivered") == 1.0).then_some(scrape)
    });
    assert_eq!((attempts(&told, "again"), attempts(&told, "given_up")), (1.0, 0.0));
    app.until("none is pending", || (scrape(&app).value("dripfeed_webhook_pending", &[]) == 0.0).then_some(()));

    let place = app.folder.path().join("backup").display().to_string();
    let taken = app.command(&["backup", &place]);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let at = scrape(&app).value("dripfeed_last_backup_timestamp_seconds", &[]);
    let now = jiff::Timestamp::now().as_millisecond() as f64 / 1_000.0;
    assert!(at > now - 600.0 && at <= now, "{at}");
}

#[test]
fn the_machine_and_the_process_are_told() {
    let app = App::start(idle());
    app.accepted(people(100));
    let scrape = scrape(&app);
    let storage = &seen(&app, "/ops/v1/overview")["storage"];
    for (name, field) in [
        ("dripfeed_database_size_bytes", "database_bytes"),
        ("dripfeed_wal_size_bytes", "wal_bytes"),
        ("dripfeed_disk_size_bytes", "disk_total_bytes"),
        ("dripfeed_disk_free_bytes", "disk_free_bytes"),
    ] {
        let (told, seen) = (scrape.value(name, &[]), number(&storage[field]));
        assert!(told > 0.0 && (told - seen).abs() <= 0.5 * seen.max(told), "{name}: {told}, {seen}");
    }
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(scrape.value("dripfeed_build_info", &version), 1.0);
    assert_eq!(scrape.value("dripfeed_store_readable", &[]), 1.0);
    assert_eq!(scrape.value("dripfeed_rows_under_way_limit", &[]), 64.0);
    assert!(scrape.value("process_threads", &[]) > 10.0);
    assert!(scrape.value("process_open_fds", &[]) > 5.0);
    assert!(scrape.value("process_max_fds", &[]) > scrape.value("process_open_fds", &[]));
    assert!(scrape.value("process_resident_memory_bytes", &[]) > 1_000_000.0);
    assert!(scrape.value("process_cpu_seconds_total", &[]) > 0.0);
    let age =
        jiff::Timestamp::now().as_millisecond() as f64 / 1_000.0 - scrape.value("process_start_time_seconds", &[]);
    assert!((0.0..600.0).contains(&age), "{age}");

    let committed = scrape.value("dripfeed_store_transactions_total", &[("outcome", "committed")]);
    assert!(committed >= 3.0, "{committed}");
    // A commit between the reading of the one and of the other is in one of them.
    let timed = scrape.value("dripfeed_store_commit_duration_seconds_count", &[]);
    assert!((timed - committed).abs() <= 1.0, "{timed} of {committed}");
    assert!(scrape.value("dripfeed_store_transaction_operations_sum", &[]) >= committed);
    let of = |name: &str| scrape.value(&format!("dripfeed_store_{name}_duration_seconds_sum"), &[]);
    assert!(of("transaction") >= of("commit"));
    assert!(scrape.value("dripfeed_store_queued_operations", &[]) >= 0.0);
}

#[test]
fn a_restart_begins_counters_anew_and_knows_what_the_database_holds() {
    let mut app = App::start(idle());
    let id = app.accepted(people(6));
    app.until_status(&id, "queued");
    dispatch(&app);
    app.until_status(&id, "completed");
    let waits = app.accepted(people(4).replace("p1@", "w1@"));
    app.until_status(&waits, "queued");
    let before = scrape(&app);
    assert_eq!(before.value("dripfeed_rows_completed_total", &INVITE), 6.0);
    assert_eq!(app.terminate(), Some(0));
    app.serve();
    let after = scrape(&app);
    for counter in ["dripfeed_rows_completed_total", "dripfeed_upload_rows_total"] {
        assert_eq!(after.value(counter, &INVITE), 0.0, "{counter}");
    }
    assert!(after.value("process_start_time_seconds", &[]) > before.value("process_start_time_seconds", &[]));
    assert_eq!(rows(&after, "pending"), 4.0);
    let last_run = |scrape: &Scrape| scrape.value("dripfeed_dispatch_last_run_timestamp_seconds", &[]);
    assert_eq!(last_run(&after), last_run(&before));
    assert!(last_run(&after) > 0.0);
}
