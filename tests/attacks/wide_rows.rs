//! Rows as wide as they may be, thousands of which may be under way: there is memory for a few of them, and the others wait in
//! the table. Nobody else waits with them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{park_timeout, scope},
    time::Duration,
};

use serde_json::Value;

use crate::{
    memory::{MOST, Peak},
    support::{
        app::{App, Setup},
        server::{Received, Reply, Server, late, ok},
    },
};

/// Cells of a wide row, and how long each is: nothing longer goes into a request by one template.
const CELLS: usize = 15;
const CELL: usize = 60_000;
/// A wide row is longer than this.
const WIDE: usize = CELLS * CELL;

/// Two workflows: of one the rows are as wide as they may be, of the other answers make them so.
fn workflows() -> String {
    let column = |name: &str, kind: &str| format!("[[workflows.wide.columns]]\nname = \"{name}\"\n{kind}\n");
    let notes: String =
        (0..CELLS).map(|cell| column(&format!("n{cell}"), "type = \"text\"\nmax_length = 60_000")).collect();
    let sent: Vec<String> = (0..CELLS).map(|cell| format!("n{cell} = \"{{{{ row.n{cell} }}}}\"")).collect();
    format!(
        r#"
[workflows.wide]
upload_path = "/v2/client/wide"
steps = [{{ name = "send", dependency = "invites", method = "POST", path = "/wide", json = {{ {sent} }} }}]
{id}{notes}
[workflows.grows]
upload_path = "/v2/client/grows"
steps = [
    {{ name = "ask", dependency = "addresses", method = "GET", path = "/grows", save = {{ text = "/text" }} }},
    {{ name = "send", dependency = "invites", method = "POST", path = "/grown", json = {{ id = "{{{{ row.id }}}}", text = "{{{{ saved.text }}}}" }} }},
]
[[workflows.grows.columns]]
name = "id"
type = "integer"
required = true
"#,
        sent = sent.join(", "),
        id = column("id", "type = \"integer\"\nrequired = true"),
    )
}

const CSV: [(&str, &str); 1] = [("Content-Type", "text/csv")];

fn app(server: &Server) -> App {
    App::start(Setup {
        more: workflows(),
        workers: "under_way = 4096".into(),
        dependency: "rate_per_second = 5000\nburst = 500\nconcurrency = 1000\ntimeout = \"60s\"".into(),
        dispatch: "rows_per_client_per_run = 100_000\nevery = \"1s\"\nmin_interval = \"0s\"".into(),
        downstream: Some(server.address),
        ..Setup::default()
    })
}

/// A file of rows that are wide, or that have nothing but their number.
fn file(rows: usize, is_wide: bool) -> String {
    let cell = "x".repeat(if is_wide { CELL } else { 0 });
    let names: String = (0..CELLS).map(|cell| format!(",n{cell}")).collect();
    let cells = format!(",{cell}").repeat(CELLS);
    let rows: String = (0..rows).map(|number| format!("{number}{cells}\n")).collect();
    format!("id{names}\n{rows}")
}

fn accepted(app: &App, key: &str, path: &str, file: &str) -> String {
    let (status, batch) = app.upload_as(key, path, &CSV, file.as_bytes());
    assert_eq!(status, 202, "{batch}");
    batch["id"].as_str().expect("an id").to_owned()
}

fn until_completed(app: &App, key: &str, id: &str, rows: usize) -> Value {
    app.until("the batch is completed", || {
        Some(app.batch_of(key, id)).filter(|batch| batch["counts"]["completed"] == rows)
    })
}

#[test]
fn wide_rows_wait_until_there_is_memory_for_them_and_narrow_ones_go_on() {
    let answers = Arc::new(AtomicBool::new(false));
    let vendor = Server::start({
        let answers = answers.clone();
        move |request: &Received| {
            while request.bytes.len() > WIDE && !answers.load(Ordering::SeqCst) {
                park_timeout(Duration::from_millis(20));
            }
            if request.bytes.len() > WIDE { late(Duration::from_millis(100), ok("{}")) } else { ok("{}") }
        }
    });
    let app = app(&vendor);
    let [other, narrow] = ["other", "narrow"].map(|name| app.add_client(name, None));
    let (peak, over) = (Peak::default(), AtomicBool::new(false));
    scope(|scope| {
        peak.watch(scope, &app, &over);
        let first = accepted(&app, &app.key, "/v2/client/wide", &file(24, true));
        let taken = app.until("some of its rows have left", || Some(vendor.calls()).filter(|calls| *calls >= 8));
        let second = accepted(&app, &other, "/v2/client/wide", &file(12, true));
        let waiting = app.until("the other client hears what its rows wait for", || {
            let batch = app.batch_of(&other, &second);
            batch["waiting_for"].as_str().filter(|told| told.contains("`workers.under_way_bytes`")).map(str::to_owned)
        });
        println!("{taken} rows are under way; {waiting}");
        let third = accepted(&app, &narrow, "/v2/client/wide", &file(500, false));
        until_completed(&app, &narrow, &third, 500);
        let wide_ones = vendor.received().iter().filter(|request| request.bytes.len() > WIDE).count();
        assert!((8..=10).contains(&wide_ones), "{wide_ones} wide rows have left");

        answers.store(true, Ordering::SeqCst);
        let both = app.until("rows of both are done", || {
            let done = [(&app.key, &first), (&other, &second)]
                .map(|(key, id)| app.batch_of(key, id)["counts"]["completed"].as_u64().unwrap_or(0));
            done.iter().all(|done| *done > 0).then_some(done)
        });
        assert!(both[0] < 24, "the other one had its turns meanwhile: {both:?}");
        until_completed(&app, &app.key, &first, 24);
        until_completed(&app, &other, &second, 12);
        over.store(true, Ordering::SeqCst);
    });
    let left = vendor.received().iter().filter(|request| request.bytes.len() > WIDE).count();
    assert_eq!(left, 24 + 12, "each left once");
    peak.is_below(MOST);
}

#[test]
fn rows_that_answers_make_wide_are_put_down_and_go_on() {
    const ROWS: usize = 600;
    let vendor = Server::start(|request: &Received| match request.path() {
        "/grows" => ok(&format!("{{\"text\": \"{}\"}}", "x".repeat(CELL))),
        _ => late(Duration::from_millis(500), Reply::Answer(200, Vec::new(), "{}".into())),
    });
    let app = app(&vendor);
    let rows: String = (0..ROWS).map(|number| format!("{number}\n")).collect();
    let (peak, over) = (Peak::default(), AtomicBool::new(false));
    scope(|scope| {
        peak.watch(scope, &app, &over);
        let id = accepted(&app, &app.key, "/v2/client/grows", &format!("id\n{rows}"));
        until_completed(&app, &app.key, &id, ROWS);
        over.store(true, Ordering::SeqCst);
    });
    let received = vendor.received();
    for path in ["/grows", "/grown"] {
        assert_eq!(received.iter().filter(|request| request.path() == path).count(), ROWS, "{path}: each left once");
    }
    peak.is_below(MOST);
}
