//! Answers as long as they may be, of which every row saves something: what one row may save has a limit, what all rows of a
//! client save counts in its quota, and whoever fills it waits alone.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{
    app::{App, OPERATOR, Setup},
    server::{Received, Server, ok},
};

/// What an answer says, in characters: nearly the longest value that is saved.
const LONG: usize = 60_000;
/// Steps that save so much, of which a row can have seventeen.
const STEPS: usize = 18;
const CSV: [(&str, &str); 1] = [("Content-Type", "text/csv")];

/// `long` asks once, `longer` often, and `short` saves next to nothing.
fn workflows() -> String {
    let ask = |number: usize| {
        format!(
            "{{ name = \"ask-{number}\", dependency = \"invites\", method = \"GET\", path = \"/long\", \
             query = {{ id = \"{{{{ row.id }}}}\" }}, save = {{ text{number} = \"/text\" }} }}"
        )
    };
    let often = (0..STEPS).map(ask).collect::<Vec<_>>().join(", ");
    let workflow = |name: &str, steps: &str| {
        format!(
            "[workflows.{name}]\nupload_path = \"/v2/client/{name}\"\nsteps = [{steps}]\n[[workflows.{name}.columns]]\n\
             name = \"id\"\ntype = \"integer\"\nrequired = true\n"
        )
    };
    let too_long = ask(0).replace("/long", "/too-long");
    [
        workflow("long", &ask(0)),
        workflow("longer", &often),
        workflow("toolong", &too_long),
        workflow("short", &ask(0).replace("/long", "/short")),
    ]
    .concat()
}

fn vendor() -> Server {
    Server::start(|request: &Received| {
        let length = match request.path() {
            "/long" => LONG,
            "/too-long" => 70_000,
            _ => 10,
        };
        ok(&format!("{{\"text\": \"{}\"}}", "x".repeat(length)))
    })
}

fn setup(vendor: &Server, quotas: &str) -> Setup {
    Setup {
        more: format!("{}{quotas}", workflows()),
        workers: "under_way = 4".into(),
        downstream: Some(vendor.address),
        ..Setup::default()
    }
}

fn app(vendor: &Server, quotas: &str) -> App {
    App::start(setup(vendor, quotas))
}

fn upload(app: &App, key: &str, workflow: &str, first: usize, rows: usize) -> (u16, Value) {
    let rows: String = (first..first + rows).map(|number| format!("{number}\n")).collect();
    app.upload_as(key, &format!("/v2/client/{workflow}"), &CSV, format!("id\n{rows}").as_bytes())
}

fn accepted(app: &App, key: &str, workflow: &str, rows: usize) -> String {
    let (status, batch) = upload(app, key, workflow, 0, rows);
    assert_eq!(status, 202, "{batch}");
    batch["id"].as_str().expect("an id").to_owned()
}

fn database(app: &App) -> Connection {
    Connection::open(app.data_dir().join("dripfeed.db")).expect("the database")
}

/// What is counted of the batches there are, and what there is.
fn saved_bytes(app: &App) -> (i64, i64) {
    let there =
        "SELECT coalesce(sum(max(coalesce(length(progress), 0) + coalesce(length(error), 0) - 500, 0)), 0) FROM rows
                 WHERE row >> 24 IN (SELECT batch FROM batches)";
    let both = format!("SELECT (SELECT coalesce(sum(saved_bytes), 0) FROM client_totals), ({there})");
    database(app).query_row(&both, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("added up")
}

#[test]
fn what_one_row_may_save_has_a_limit_and_a_row_that_goes_beyond_says_so() {
    let vendor = vendor();
    let app = app(&vendor, "");
    for (workflow, told) in [("toolong", "64 KiB"), ("longer", "1024 KiB")] {
        let id = accepted(&app, &app.key, workflow, 1);
        assert_eq!(app.until_status(&id, "completed")["counts"]["failed"], 1);
        let error = &app.rows(&id)[0]["error"];
        assert_eq!((&error["code"], &error["http_status"]), (&json!("bad_answer"), &json!(200)), "{error}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(told)), "{error}");
    }
    let (counted, there) = saved_bytes(&app);
    assert!(counted == there && counted > 17 * LONG as i64, "{counted} of {there}");
}

#[test]
fn a_client_whose_rows_fill_its_quota_waits_and_nobody_waits_with_it() {
    const ROWS: usize = 60;
    const LIMIT: i64 = 2_000_000;
    let vendor = vendor();
    // Between two looks at what clients have not all of the rows are sent.
    let dependency = "rate_per_second = 40\nburst = 2".into();
    let app = App::start(Setup { dependency, ..setup(&vendor, "[quotas]\nstored_bytes = \"2MB\"\n") });
    let other = app.add_client("globex", None);
    let id = accepted(&app, &app.key, "long", ROWS);
    app.until("it is told", || app.log().contains("client.is_full").then_some(()));
    let waiting = app.until("its rows wait for room in the quota", || {
        let batch = app.batch(&id);
        let waits = batch["waiting_for"].as_str().is_some_and(|told| told.contains("`stored_bytes`"));
        (waits && batch["counts"]["processing"] == 0).then_some(batch)
    });
    let done = waiting["counts"]["completed"].as_u64().expect("a count") as usize;
    assert!((LIMIT as usize / LONG - 2..ROWS).contains(&done), "{waiting}");
    assert_eq!(waiting["estimate"], Value::Null, "{waiting}");
    let (status, refused) = upload(&app, &app.key, "long", 1_000, 1);
    assert_eq!((status, &refused["quota"]), (403, &json!("stored_bytes")), "{refused}");

    let (status, short) = upload(&app, &other, "short", 0, 20);
    assert_eq!(status, 202, "{short}");
    let short = short["id"].as_str().expect("an id");
    app.until("the other client's rows are done", || {
        (app.batch_of(&other, short)["status"] == "completed").then_some(())
    });
    assert_eq!(app.batch(&id)["counts"]["completed"], done, "nothing of the first one moved meanwhile");
    let (counted, there) = saved_bytes(&app);
    assert!(counted == there && counted > LIMIT - 100_000, "{counted} of {there}");

    assert!(app.command(&["client", "limit", "acme", "--stored-bytes", "100MB"]).status.success());
    assert_eq!(app.until_status(&id, "completed")["counts"]["completed"], ROWS);
    let asked = vendor.received().iter().filter(|request| request.path() == "/long").count();
    assert_eq!(asked, ROWS, "each row was sent once");
    assert_eq!(app.delete(&app.key, &format!("/v2/batches/{id}")).0, 200);
    assert_eq!(saved_bytes(&app).0, 0, "what is deleted counts no more");
}

#[test]
fn a_quota_that_is_made_smaller_than_what_was_uploaded_holds_up_no_row() {
    let vendor = vendor();
    let app = app(&vendor, "");
    assert_eq!(app.post(OPERATOR, "/ops/v1/dispatch/pause").0, 200);
    let id = accepted(&app, &app.key, "short", 20);
    assert!(app.command(&["client", "limit", "acme", "--stored-bytes", "1kB"]).status.success());
    assert_eq!(app.post(OPERATOR, "/ops/v1/dispatch/resume").0, 200);
    assert_eq!(app.until_status(&id, "completed")["counts"]["completed"], 20);
}

#[test]
fn bytes_that_drifted_below_nothing_are_counted_anew() {
    let vendor = vendor();
    let app = app(&vendor, "");
    assert_eq!(app.post(OPERATOR, "/ops/v1/dispatch/pause").0, 200);
    let id = accepted(&app, &app.key, "long", 3);
    app.until_status(&id, "queued");
    database(&app).execute("UPDATE batches SET saved_bytes = -1000000", []).expect("drifted");
    assert_eq!(app.post(OPERATOR, "/ops/v1/dispatch/resume").0, 200);
    app.until_status(&id, "completed");
    let (counted, there) = saved_bytes(&app);
    assert!(counted == there && counted > 2 * LONG as i64, "{counted} of {there}");
}
