//! Lists of the longest entries that can be stored, read from many sides at once: what is made of them, and what nobody takes
//! of that, has its limits in bytes. Nothing of a list is lost by that: its pages become short.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread::{park_timeout, scope},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{
    memory::{MOST, Peak, again, ask, drain},
    support::app::{App, OPERATOR, Setup, people},
};

const LASTS: Duration = Duration::from_secs(5);
/// Entries of each list: three pages of the longest kind.
const ENTRIES: usize = 3_000;
/// The longest reason, of characters that take six bytes each in JSON.
const REASON: usize = 500;
/// A workflow with rows of nearly a megabyte.
const WIDE: &str = r#"
[workflows.wide]
upload_path = "/v2/client/wide"
on_invalid_row = "skip"
steps = [{ name = "send", dependency = "invites", method = "POST", path = "/invites", json = { id = "{{ row.id }}" } }]
[[workflows.wide.columns]]
name = "id"
type = "integer"
required = true
[[workflows.wide.columns]]
name = "note"
type = "text"
max_length = 1_000_000
[limits]
requests_per_minute = 1_000_000
"#;

/// So many copies of the first entry of a table, each with a number `n` from 1, and with these columns changed.
pub fn copy(database: &Connection, table: &str, times: usize, changed: &[(&str, &str)]) {
    let mut columns = database.prepare(&format!("SELECT name FROM pragma_table_info('{table}')")).expect("a statement");
    let columns: Vec<String> =
        columns.query_map([], |row| row.get(0)).expect("columns").map(|name| name.expect("a name")).collect();
    let value = |name: &String| {
        let known = changed.iter().find(|(column, _)| column == name);
        known.map_or_else(|| name.clone(), |(_, value)| (*value).to_owned())
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    let (columns, values) = (columns.join(", "), values.join(", "));
    let sql = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {times})
         INSERT INTO {table} ({columns}) SELECT {values} FROM numbers CROSS JOIN (SELECT * FROM {table} LIMIT 1)"
    );
    let copied = database.execute(&sql, []).unwrap_or_else(|error| panic!("{table}: {error}"));
    assert_eq!(copied, times, "{table}");
}

/// A batch that waits, one with wide rows and one with lines that were left out: their names. Whatever else is listed, is.
fn stored(app: &mut App) -> [String; 2] {
    let reason = json!({ "reason": "\u{1}".repeat(REASON) });
    assert_eq!(app.post_json(OPERATOR, "/ops/v1/dispatch/pause", &reason).0, 200);
    let paused = app.accepted(people(1));
    app.until_status(&paused, "queued");
    assert_eq!(app.post_json(OPERATOR, &format!("/v2/batches/{paused}/pause"), &reason).0, 200);
    assert_eq!(app.patch_json(OPERATOR, "/ops/v1/clients/acme", &json!({ "paused": true })).0, 200);
    assert_eq!(app.post_json("", "/session", &json!({ "key": OPERATOR })).0, 200);
    let cell = "\u{1}".repeat(900_000);
    let rows: String = (0..6).map(|number| format!("{number},{cell}\nno number,x\n")).collect();
    let (status, wide) = app.upload_as(
        &app.key,
        "/v2/client/wide",
        &[("Content-Type", "text/csv")],
        format!("id,note\n{rows}").as_bytes(),
    );
    assert_eq!(status, 202, "{wide}");
    let wide = wide["id"].as_str().expect("an id").to_owned();
    app.until_status(&wide, "queued");
    assert_eq!(app.terminate(), Some(0));

    let database = Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
    let begin = "BEGIN; PRAGMA foreign_keys = OFF;";
    database.execute_batch(begin).expect("begun");
    let text = "replace(hex(zeroblob(500)), '00', char(1))";
    copy(&database, "batches", ENTRIES, &[("batch", "NULL"), ("id", "printf('bat_00%024d', n)")]);
    copy(&database, "audit", ENTRIES, &[("entry", "NULL"), ("why", text)]);
    copy(&database, "clients", ENTRIES, &[("client", "NULL"), ("name", "printf('%064d', n)")]);
    copy(&database, "sessions", ENTRIES, &[("session", "NULL"), ("session_hash", "randomblob(32)")]);
    let granted: Vec<_> = (0..20).map(|_| json!({ "client": "n".repeat(64), "rows": 1 })).collect();
    database
        .execute(
            "INSERT INTO runs (at, rows, clients, granted) VALUES (1, 1, 1, ?)",
            [Value::from(granted).to_string()],
        )
        .expect("a run");
    copy(&database, "runs", ENTRIES - 1, &[("run", "NULL")]);
    let sql = format!(
        "INSERT INTO deliveries (id, client, batch_id, payload, status, attempts, error, created_at, finished_at)
         SELECT 'msg_0', client, '{paused}', '{{}}', 'failed', 9, {text}, 1, strftime('%s') * 1000
         FROM clients WHERE name = 'acme'"
    );
    assert_eq!(database.execute(&sql, []).expect("a delivery"), 1);
    copy(&database, "deliveries", ENTRIES - 1, &[("delivery", "NULL"), ("id", "printf('msg_%d', n)")]);
    copy(&database, "skipped", ENTRIES, &[("line", "100 + n"), ("message", text)]);
    let claimed = "UPDATE batches SET status = 'processing', owner = 1, claim_expires_at = 1, extracted = 0
                   WHERE id LIKE 'bat\\_00%0' ESCAPE '\\'";
    assert_eq!(database.execute(claimed, []).expect("claimed"), ENTRIES / 10);
    database.execute_batch("COMMIT").expect("stored");
    drop(database);
    app.serve();
    [paused, wide]
}

/// All pages of a list, one after another: how many entries there are, each of which is there once.
fn walk(app: &App, path: &str, name: &str) -> usize {
    let (mut entries, mut pages, mut after) = (BTreeSet::new(), 0, String::new());
    loop {
        let (status, page) = app.get(OPERATOR, &format!("{path}?limit=1000{after}"));
        assert_eq!(status, 200, "{path}: {page}");
        let found = page[name].as_array().unwrap_or_else(|| panic!("{path}: no {name}"));
        assert!(!found.is_empty() || page["next"].is_null(), "{path}: an empty page in between");
        pages += 1;
        entries.extend(found.iter().enumerate().map(|(place, entry)| match name {
            // They are all alike.
            "entries" | "deliveries" | "skipped" | "runs" if entry["run"].is_null() => format!("{pages}/{place}"),
            _ => entry.to_string(),
        }));
        let Some(next) = page["next"].as_str() else { return entries.len() };
        after = format!("&after={next}");
    }
}

#[test]
fn lists_of_the_longest_entries_that_can_be_stored() {
    let mut app = App::start(Setup {
        more: WIDE.into(),
        workers: "under_way = 64\nauto_rescue = false".into(),
        dispatch: "expect_every = \"1h\"\nmin_interval = \"0s\"".into(),
        ..Setup::default()
    });
    let [_, wide] = stored(&mut app);
    let lists = [
        ("/v2/batches".to_owned(), "batches", ENTRIES + 2),
        ("/ops/v1/batches".to_owned(), "batches", ENTRIES + 2),
        ("/ops/v1/audit".to_owned(), "entries", ENTRIES),
        ("/ops/v1/clients".to_owned(), "clients", ENTRIES + 1),
        ("/ops/v1/dispatch/runs".to_owned(), "runs", ENTRIES),
        ("/ops/v1/clients/acme/deliveries".to_owned(), "deliveries", ENTRIES),
        (format!("/v2/batches/{wide}/skipped"), "skipped", ENTRIES),
        ("/ops/v1/sessions".to_owned(), "sessions", ENTRIES + 1),
    ];
    let others = [
        "/ops/v1/overview".to_owned(),
        "/ops/v1/stuck".into(),
        format!("/v2/batches/{wide}/errors"),
        "/openapi.json".into(),
    ];
    let rows = [
        format!("/v2/batches/{wide}/rows?reveal=true"),
        format!("/v2/batches/{wide}/rows/3?reveal=true"),
        format!("/v2/batches/{wide}/results.csv?reveal=true"),
    ];
    let paths: Vec<String> = lists
        .iter()
        .map(|(path, ..)| format!("{path}?limit=1000"))
        .chain(others.iter().cloned())
        .chain(rows.iter().cloned())
        .collect();

    let (peak, over) = (Peak::default(), AtomicBool::new(false));
    let (answered, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let read = |number: usize| {
        let path = &paths[number % paths.len()];
        match drain(&app, OPERATOR, path).0 {
            200 => answered.fetch_add(1, Ordering::SeqCst),
            429 => refused.fetch_add(1, Ordering::SeqCst),
            other => panic!("{path} was answered {other}: {}", app.log()),
        };
    };
    scope(|scope| {
        peak.watch(scope, &app, &over);
        again(scope, &over, 2 * paths.len().max(12), &read);
        let untaken: Vec<_> = paths.iter().cycle().take(60).map(|path| ask(&app, OPERATOR, path)).collect();
        let begun = Instant::now();
        while begun.elapsed() < LASTS {
            assert_eq!(app.get(OPERATOR, "/livez").0, 200);
            park_timeout(Duration::from_millis(100));
        }
        drop(untaken);
        over.store(true, Ordering::SeqCst);
    });
    println!("{answered:?} answers, {refused:?} refused");
    peak.is_below(MOST);

    for (path, name, least) in &lists {
        let entries = walk(&app, path, name);
        assert!(entries >= *least, "{path}: {entries} of {least}");
    }
    let (status, row) = app.get(OPERATOR, &rows[1]);
    assert_eq!((status, row["data"]["note"].as_str().map(str::len)), (200, Some(900_000)));
    let (status, bytes) = drain(&app, OPERATOR, &rows[2]);
    assert!(status == 200 && bytes > 6 * 900_000, "{bytes} bytes of results");
    let (status, page) = app.get(OPERATOR, &rows[0]);
    assert!(status == 200 && page["next"].is_string(), "a page of one row or two");
}
