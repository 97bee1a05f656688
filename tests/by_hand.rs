//! The operator's way: commands that work rows and batches by hand, beside a live server and without one.

mod support;

use std::process::Output;

use dripfeed::simulator::SimulatorOptions;
use serde_json::{Value, json};
use support::app::{App, DISPATCH, Setup, people};

/// Nothing is dispatched by itself.
fn idle() -> Setup {
    Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn row(app: &App, id: &str, number: u32) -> Value {
    app.get(&app.key, &format!("/v2/batches/{id}/rows/{number}")).1
}

#[test]
fn a_row_is_run_by_hand_beside_a_live_server_under_both_names() {
    let app = App::start(idle());
    let id = app.accepted(people(3));
    app.until_status(&id, "queued");
    app.post(&app.key, &format!("/v2/batches/{id}/pause"));
    let ran = app.command(&["row", "run", &format!("{id}/2")]);
    assert!(ran.status.success(), "{}", said(&ran));
    let original = app.command(&["client:csv-invite-processing", &format!("{id}/3")]);
    assert!(original.status.success(), "{}", said(&original));
    assert_eq!(row(&app, &id, 1)["status"], "pending");
    assert_eq!(
        (row(&app, &id, 2)["status"].clone(), row(&app, &id, 3)["status"].clone()),
        (json!("completed"), json!("completed"))
    );
    assert_eq!(app.stats().invites, 2);
    let again = app.command(&["row", "run", &format!("{id}/2")]);
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again).contains("completed already"), "{}", said(&again));
    let nowhere = app.command(&["row", "run", &format!("{id}/9")]);
    assert!(nowhere.status.code() == Some(1) && said(&nowhere).contains("there is no row"), "{}", said(&nowhere));
    assert_eq!(app.command(&["row", "run", "nonsense"]).status.code(), Some(2), "wrong usage");
    let shown = app.command(&["row", "show", &format!("{id}/2"), "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!((&shown["status"], &shown["data"]["email"]), (&json!("completed"), &json!("•••")));
}

#[test]
fn a_row_job_run_by_many_processes_and_the_server_at_once_is_worked_once() {
    let latency = SimulatorOptions { latency: std::time::Duration::from_millis(100), ..SimulatorOptions::default() };
    let app = App::start(Setup { simulator: latency, ..idle() });
    let id = app.accepted(people(1));
    app.until_status(&id, "queued");
    let name = format!("{id}/1");
    let mut jobs: Vec<_> = (0..6).map(|_| app.spawn(&["row", "run", &name])).collect();
    app.post(DISPATCH, "/ops/v1/dispatch");
    let worked = jobs.iter_mut().filter_map(|job| job.wait().expect("ended").code()).filter(|code| *code == 0).count();
    app.until_status(&id, "completed");
    assert!(worked <= 1, "at most one command, or the server, worked it: {worked}");
    let stats = app.stats();
    assert_eq!((stats.calls.total(), stats.invites, stats.replayed), (3, 1, 0), "each call was made once");
}

#[test]
fn a_failing_row_run_by_hand_says_so_and_keeps_the_error() {
    let app = App::start(idle());
    let csv = "email,first_name,last_name,postcode,house_number\nno@rejected.example,Ann,Smith,AB1 2CD,1\n";
    let id = app.accepted(csv);
    app.until_status(&id, "queued");
    let ran = app.command(&["row", "run", &format!("{id}/1")]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(said(&ran).contains("rejected"), "{}", said(&ran));
    assert!(!said(&ran).contains("rejected.example"), "no value is shown");
    let batch = app.until_status(&id, "completed");
    assert_eq!(batch["counts"]["failed"], 1);
}

#[test]
fn a_batch_is_extracted_by_hand_without_a_server_and_again_to_no_effect() {
    let mut app = App::start(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() });
    let id = app.accepted(people(12_345));
    app.until_status(&id, "queued");
    let other = app.accepted(people(6_000));
    // Whatever the server has done of it by then, the command takes it from there.
    app.kill();
    let run = |name: &[&str]| {
        let arguments: Vec<&str> = name.iter().copied().chain([other.as_str(), "--manual-run"]).collect();
        app.command(&arguments)
    };
    let stuck = app.command(&["stuck", "--json"]);
    assert!(stuck.status.success(), "{}", said(&stuck));
    let first = run(&["batch", "run"]);
    if !first.status.success() {
        assert!(
            said(&first).contains("by another process"),
            "a claim of the dead server still lasts: {}",
            said(&first)
        );
    }
    app.serve();
    app.until_status(&other, "queued");
    let again = app.command(&["client:batch-csv-invite-processing", &other, "--manual-run"]);
    assert!(again.status.success() && said(&again).contains("nothing was changed"), "{}", said(&again));
    for (id, rows) in [(&id, 12_345), (&other, 6_000)] {
        let lines: Vec<u64> = app.rows(id).iter().map(|row| row["line"].as_u64().expect("a line")).collect();
        assert_eq!(lines, (2..rows + 2).collect::<Vec<u64>>(), "each row of the file once, in its order");
    }
    assert_eq!(app.command(&["batch", "run", &other]).status.code(), Some(2), "--manual-run has to be said");
}

#[test]
fn a_batch_extracted_by_two_at_once_has_its_rows_once() {
    let app = App::start(idle());
    let id = app.accepted(people(20_000));
    let mut rivals: Vec<_> = (0..2).map(|_| app.spawn(&["batch", "run", &id, "--manual-run"])).collect();
    app.until_status(&id, "queued");
    for rival in &mut rivals {
        rival.wait().expect("ended");
    }
    let lines: Vec<u64> = app.rows(&id).iter().map(|row| row["line"].as_u64().expect("a line")).collect();
    assert_eq!(lines, (2..20_002).collect::<Vec<u64>>());
}

#[test]
fn stuck_claims_are_listed_and_freed_only_on_request() {
    let setup = Setup { workers: "under_way = 32\nclaim_ttl = \"1s\"\nauto_rescue = false".into(), ..idle() };
    let hanging = SimulatorOptions { hang: 1.0, ..SimulatorOptions::default() };
    let mut app = App::start(Setup { simulator: hanging, ..setup });
    let id = app.accepted(people(2));
    app.until_status(&id, "queued");
    let mut command = app.spawn(&["row", "run", &format!("{id}/1")]);
    app.until("its call is under way", || (app.stats().calls.total() == 1).then_some(()));
    command.kill().expect("killed");
    command.wait().expect("reaped");
    app.terminate();
    let listed = app.until("its claim has expired", || {
        let output = app.command(&["stuck", "--json"]);
        let listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (listed["rows"].as_array().is_some_and(|rows| rows.len() == 1)).then_some(listed)
    });
    assert_eq!((&listed["rows"][0]["row"], &listed["applied"]), (&json!(format!("{id}/1")), &json!(null)));
    let original = app.command(&["client:process-stuck-csv-invite", "--apply", "--json"]);
    let applied: Value = serde_json::from_slice(&original.stdout).expect("JSON");
    assert_eq!(applied["applied"]["rows"], 1, "{applied}");
    app.simulator.set_faults(0.0, 0.0);
    app.serve();
    assert_eq!(row(&app, &id, 1)["status"], "pending");
    app.post(DISPATCH, "/ops/v1/dispatch");
    let batch = app.until_status(&id, "completed");
    assert_eq!((&batch["counts"]["completed"], app.stats().duplicate_invites), (&json!(2), 0));
}

#[test]
fn one_server_a_data_folder_and_dispatch_over_http() {
    let app = App::start(idle());
    let second = app.command(&["serve"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second).contains("one for each data folder"), "{}", said(&second));
    let id = app.accepted(people(1));
    app.until_status(&id, "queued");
    let dispatched = app.command(&["dispatch", "--url", &app.url("")]);
    assert!(dispatched.status.success(), "{}", said(&dispatched));
    let answer: Value = serde_json::from_slice(&dispatched.stdout).expect("JSON");
    assert_eq!((&answer["outcome"], &answer["rows"]), (&json!("granted"), &json!(1)));
    app.until_status(&id, "completed");
    let nobody = app.command(&["dispatch", "--url", "http://127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(1));
}

#[test]
fn a_terminated_server_ends_in_order_and_a_killed_one_is_taken_up_from_disk() {
    let latency = SimulatorOptions { latency: std::time::Duration::from_millis(20), ..SimulatorOptions::default() };
    let mut app = App::start(Setup { simulator: latency, ..Setup::default() });
    let id = app.accepted(people(400));
    app.until("some rows are completed", || (app.batch(&id)["counts"]["completed"].as_u64() > Some(20)).then_some(()));
    assert_eq!(app.terminate(), Some(0));
    app.serve();
    let after_term = app.batch(&id);
    assert_eq!(after_term["counts"]["processing"].as_u64().map(|rows| rows <= 64), Some(true), "{after_term}");
    for _ in 0..4 {
        let before = app.batch(&id)["counts"]["completed"].as_u64().expect("a count");
        app.until("more rows are completed", || {
            (app.batch(&id)["counts"]["completed"].as_u64() > Some(before + 20)).then_some(())
        });
        app.kill();
        app.serve();
    }
    let batch = app.until_status(&id, "completed");
    assert_eq!(batch["counts"]["completed"], 400);
    let stats = app.stats();
    assert_eq!((stats.invites, stats.duplicate_invites), (400, 0), "each invite was created once");
}

/// How many rows of the one batch are in the work table, and its status, as another process reads them.
fn extraction_of(app: &App) -> Option<(u32, String)> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = rusqlite::Connection::open_with_flags(app.data_dir().join("dripfeed.db"), flags).ok()?;
    let mut statement = database.prepare("SELECT extracted, status FROM batches").ok()?;
    statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).ok()
}

#[test]
fn killed_half_way_through_an_extraction_it_ends_with_exactly_the_rows_of_the_file() {
    const ROWS: u64 = 60_000;
    let mut app = App::start(idle());
    let id = app.accepted(people(ROWS as usize));
    let half = |app: &App| {
        app.until("it is being extracted", || {
            extraction_of(app).filter(|(extracted, status)| *extracted > 0 || status != "pending")
        })
    };
    let mut seen_half_done = 0;
    for _ in 0..3 {
        let (extracted, status) = half(&app);
        app.kill();
        seen_half_done += u32::from(status == "processing" && u64::from(extracted) < ROWS);
        app.serve();
    }
    assert!(seen_half_done > 0, "it was killed in the middle at least once");
    app.until_status(&id, "queued");
    let lines: Vec<u64> = app.rows(&id).iter().map(|row| row["line"].as_u64().expect("a line")).collect();
    assert_eq!(lines.len() as u64, ROWS);
    assert!(lines.iter().copied().eq(2..ROWS + 2), "each row of the file once, in its order");
}
