//! Whoever uploads gets no more than its part of the disk and of the work, however the uploads come.

use std::{io::Write, thread::scope};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::support::app::{App, OPERATOR, Setup, people};

const UPLOAD: &str = "/v2/client/users/batch/invite";

fn app(quotas: &str) -> App {
    let app = App::start(Setup { more: format!("[quotas]\n{quotas}"), ..Setup::default() });
    assert_eq!(app.post(OPERATOR, "/ops/v1/dispatch/pause").0, 200);
    app
}

/// A file of its own of so many rows.
fn file(mark: &str, rows: usize) -> String {
    people(rows).replace("@mail", &format!("@{mark}.mail"))
}

fn exceeds(answer: &(u16, Value), quota: &str, limit: u64, used: u64) {
    let (status, problem) = answer;
    assert_eq!((*status, &problem["code"]), (403, &"quota_exceeded".into()), "{problem}");
    assert_eq!((&problem["quota"], &problem["limit"], &problem["used"]), (&quota.into(), &limit.into(), &used.into()));
    let detail = problem["detail"].as_str().expect("a sentence");
    assert!(detail.contains(quota) && detail.contains(&used.to_string()), "{detail}");
}

#[test]
fn rows_that_wait_are_limited_also_where_uploads_come_side_by_side_and_others_are_not_held_up() {
    let app = app("pending_rows = 10");
    let id = app.accepted(file("a", 6));
    exceeds(&app.upload(&app.key, file("b", 5)), "pending_rows", 10, 6);
    let mut answers = scope(|scope| {
        let upload = |mark: &'static str| scope.spawn(|| app.upload(&app.key, file(mark, 4)).0);
        ["c", "d"].map(upload).map(|upload| upload.join().expect("an answer"))
    });
    answers.sort_unstable();
    assert_eq!(answers, [202, 403], "both alone would have fitted");
    exceeds(&app.upload(&app.key, file("e", 1)), "pending_rows", 10, 10);
    let others = app.add_client("globex", None);
    assert_eq!(app.upload(&others, file("f", 10)).0, 202);
    assert_eq!(app.post(&app.key, &format!("/v2/batches/{id}/cancel")).0, 200);
    assert_eq!(app.upload(&app.key, file("g", 6)).0, 202, "what is finished counts no more");
}

#[test]
fn one_client_has_quotas_of_its_own_until_they_are_taken_back_and_sees_what_is_used() {
    let app = app("pending_rows = 10\nbatches = 3");
    let path = "/ops/v1/clients/acme";
    let quota = |name: &str| app.get(OPERATOR, path).1["quotas"][name].clone();
    app.accepted(file("a", 6));
    assert_eq!(quota("pending_rows"), json!({ "limit": 10, "is_own": false, "used": 6 }));
    let raised =
        app.command(&["client", "limit", "acme", "--pending-rows", "20", "--stored-bytes", "1MB", "--batches", "9"]);
    assert!(raised.status.success(), "{raised:?}");
    assert_eq!(app.upload(&app.key, file("b", 14)).0, 202);
    exceeds(&app.upload(&app.key, file("c", 1)), "pending_rows", 20, 20);
    assert_eq!(quota("pending_rows"), json!({ "limit": 20, "is_own": true, "used": 20 }));
    assert_eq!((&quota("batches")["used"], &quota("batches")["limit"]), (&json!(2), &json!(9)));
    let stored = quota("stored_bytes");
    assert_eq!(
        (&stored["limit"], stored["used"].as_u64().is_some_and(|used| used > 20 * 600)),
        (&json!(1_000_000), true)
    );

    // Lower than what is there: nothing goes, and nothing more comes.
    let (status, told) = app.patch_json(OPERATOR, path, &json!({ "quotas": { "pending_rows": 5, "batches": null } }));
    assert_eq!(
        (status, &told["quotas"]["pending_rows"]["limit"], &told["quotas"]["batches"]["limit"]),
        (200, &json!(5), &json!(3))
    );
    exceeds(&app.upload(&app.key, file("c", 1)), "pending_rows", 5, 20);
    let others = app.add_client("globex", None);
    assert_eq!(app.upload(&others, file("d", 10)).0, 202, "the other client has what is configured");
    let listed = app.command(&["client", "list"]);
    let listed = String::from_utf8(listed.stdout).expect("text");
    assert!(listed.contains("20 of 5") && listed.contains("10 of 10"), "{listed}");
    let back = app.command(&["client", "limit", "acme", "--pending-rows", "default", "--stored-bytes", "default"]);
    assert!(back.status.success(), "{back:?}");
    assert_eq!(quota("pending_rows"), json!({ "limit": 10, "is_own": false, "used": 20 }));
    assert_eq!(quota("stored_bytes")["is_own"], false);
    for wrong in [
        json!({ "quotas": { "pending_rows": -1 } }),
        json!({ "quotas": { "rows": 1 } }),
        json!({ "quotas": { "uploads_at_once": 0 } }),
        json!({ "quotas": {} }),
    ] {
        assert_eq!(app.patch_json(OPERATOR, path, &wrong).0, 400, "{wrong}");
    }
    for wrong in [&["client", "limit", "acme"][..], &["client", "limit", "acme", "--pending-rows", "many"]] {
        assert_eq!(app.command(wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(app.command(&["client", "limit", "nobody", "--batches", "1"]).status.code(), Some(1));
    let (_, audit) = app.get(OPERATOR, "/ops/v1/audit");
    assert!(audit.to_string().contains("pending_rows as configured, stored_bytes as configured"), "{audit}");
}

/// What is kept of a client's batches is what they add up to, whatever became of them.
#[test]
fn what_is_used_is_what_is_there_after_all_that_can_happen_to_batches() {
    let app = App::start(Setup::default());
    let others = app.add_client("globex", None);
    let rejected = people(9).replace("p3@mail", "p3@rejected");
    let done = app.accepted(&rejected);
    assert_eq!(app.until_status(&done, "completed")["counts"]["failed"], 1);
    assert_eq!(app.upload(&others, file("o", 4)).0, 202);
    let client = |name: &str| app.get(OPERATOR, &format!("/ops/v1/clients/{name}")).1;
    app.until("all are done", || (client("globex")["completed"] == 4).then_some(()));
    assert_eq!(
        (&client("acme")["completed"], &client("acme")["failed"]),
        (&json!(8), &json!(1)),
        "finished ones count"
    );
    assert_eq!(app.post(&app.key, &format!("/v2/batches/{done}/retry")).0, 200);
    app.until("it failed again", || (app.batch(&done)["status"] == "completed").then_some(()));
    assert_eq!(app.post(OPERATOR, "/ops/v1/dispatch/pause").0, 200);
    let cancelled = app.accepted(file("c", 7));
    let waits = app.accepted(file("w", 5));
    assert_eq!(app.post(&app.key, &format!("/v2/batches/{cancelled}/cancel")).0, 200);
    app.until_status(&cancelled, "cancelled");
    app.until_status(&waits, "queued");
    assert_eq!(client("acme")["quotas"]["pending_rows"]["used"], 5);
    assert_eq!(app.delete(&app.key, &format!("/v2/batches/{done}")).0, 200);

    let database = rusqlite::Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
    let sums = |sql: &str| {
        let mut statement = database.prepare(sql).expect("SQL");
        let rows =
            statement.query_map([], |row| (0..11).map(|column| row.get(column)).collect::<Result<Vec<i64>, _>>());
        rows.expect("rows").map(|row| row.expect("a row")).collect::<Vec<_>>()
    };
    let kept = sums("SELECT * FROM client_totals ORDER BY client");
    let added_up = sums(
        "SELECT client, count(*), sum(finished_at IS NULL), sum(file_bytes), sum(total), sum(pending), sum(processing),
                sum(completed), sum(failed), sum(kept_bytes),
                sum(saved_bytes)
         FROM batches GROUP BY client ORDER BY client",
    );
    assert_eq!(kept, added_up);
    assert_eq!((kept.len(), kept[0][1]), (2, 2));
}

#[test]
fn more_uploads_of_one_client_than_it_may_have_at_once_are_told_to_come_again() {
    let app = app("");
    let begin = |key: &str| {
        let url = app.url("");
        let address = url.trim_start_matches("http://");
        let mut connection = std::net::TcpStream::connect(address).expect("the server listens");
        let head = format!(
            "POST {UPLOAD} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nContent-Type: text/csv\r\n\
             Content-Length: 1000000\r\n\r\nemail,"
        );
        connection.write_all(head.as_bytes()).expect("sent");
        connection
    };
    let held = [begin(&app.key), begin(&app.key)];
    let database = rusqlite::Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
    app.until("both are under way", || {
        let begun = database.query_row("SELECT count(*) FROM uploads", [], |row| row.get::<_, i64>(0));
        (begun.expect("a count") == 2).then_some(())
    });
    let (status, refused) = app.upload(&app.key, file("a", 1));
    assert_eq!((status, &refused["code"]), (429, &json!("busy")), "{refused}");
    let others = app.add_client("globex", None);
    assert_eq!(app.upload(&others, file("b", 1)).0, 202, "another client is not held up");
    assert!(app.command(&["client", "limit", "acme", "--uploads-at-once", "3"]).status.success());
    assert_eq!(app.upload(&app.key, file("c", 1)).0, 202);
    drop(held);
}

#[test]
fn a_client_that_is_held_to_some_workflows_uploads_to_no_other() {
    let more = "[workflows.letters]\nupload_path = \"/v2/client/letters\"\n[[workflows.letters.columns]]\nname = \"email\"\n\
                type = \"email\"\n[[workflows.letters.steps]]\nname = \"send\"\ndependency = \"invites\"\n\
                method = \"POST\"\npath = \"/invites\"\njson = { email = \"{{ row.email }}\" }\n";
    let app = App::start(Setup { more: more.to_owned(), ..Setup::default() });
    let letters = "email\na@mail.example\n";
    let send =
        |key: &str| app.upload_as(key, "/v2/client/letters", &[("Content-Type", "text/csv")], letters.as_bytes());
    let names = |key: &str| {
        let list = app.get(key, "/v2/workflows").1;
        let names = list["workflows"].as_array().expect("a list").iter().map(|it| it["name"].clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&app.key), ["invite", "letters"]);
    let added = app.command(&["client", "add", "globex", "--workflows", "letters", "--json"]);
    let added: Value = serde_json::from_slice(&added.stdout).expect("JSON");
    let globex = added["key"].as_str().expect("a key");
    assert_eq!(names(globex), ["letters"]);
    let (status, refused) = app.upload(globex, file("a", 1));
    assert_eq!((status, &refused["code"]), (403, &json!("forbidden")));
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("`invite`")), "{refused}");
    assert_eq!(app.get(globex, &format!("{UPLOAD}/template.csv")).0, 403);
    assert_eq!((send(globex).0, app.get(globex, "/v2/client/letters/template.csv").0), (202, 200));

    let path = "/ops/v1/clients/globex";
    let (status, told) = app.patch_json(OPERATOR, path, &json!({ "workflows": ["invite"] }));
    assert_eq!((status, &told["workflows"]), (200, &json!(["invite"])));
    assert_eq!((send(globex).0, app.upload(globex, file("a", 1)).0), (403, 202), "from the next upload on");
    assert_eq!(app.patch_json(OPERATOR, path, &json!({ "workflows": null })).1["workflows"], Value::Null);
    assert_eq!(names(globex), ["invite", "letters"]);
    assert!(app.command(&["client", "limit", "globex", "--workflows", "invite,letters"]).status.success());
    assert!(app.command(&["client", "limit", "globex", "--workflows", "all"]).status.success());
    let new = json!({ "name": "initech", "workflows": ["letter"] });
    let (status, unknown) = app.post_json(OPERATOR, "/ops/v1/clients", &new);
    assert_eq!(status, 400);
    assert!(unknown["detail"].as_str().is_some_and(|detail| detail.contains("was `letters` meant?")), "{unknown}");
    assert_eq!(app.get(OPERATOR, "/ops/v1/clients/initech").0, 404, "nothing was added");
    for workflows in ["invte", ""] {
        let refused = app.command(&["client", "limit", "globex", "--workflows", workflows]);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    }
    assert_eq!(names(&app.key), ["invite", "letters"], "the other client was not touched");
}

#[test]
fn batches_are_limited_until_they_are_deleted() {
    let app = app("batches = 2");
    let first = app.accepted(file("a", 1));
    app.accepted(file("b", 1));
    assert_eq!(app.post(&app.key, &format!("/v2/batches/{first}/cancel")).0, 200);
    app.until_status(&first, "cancelled");
    exceeds(&app.upload(&app.key, file("c", 1)), "batches", 2, 2);
    assert_eq!(app.delete(&app.key, &format!("/v2/batches/{first}")).0, 200);
    assert_eq!(app.upload(&app.key, file("c", 1)).0, 202);
}

#[test]
fn what_is_small_on_its_way_and_large_on_the_disk_is_stopped_at_its_clients_quota() {
    let app = app("stored_bytes = \"3MB\"");
    let wide = "n".repeat(900);
    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    writeln!(bomb, "email,first_name,last_name,postcode,house_number").expect("written");
    for row in 0..8_000 {
        writeln!(bomb, "w{row}@mail.example,{wide},{wide},AB1 2CD,1").expect("written");
    }
    let bomb = bomb.finish().expect("a file");
    assert!(bomb.len() < 500_000, "{} bytes", bomb.len());
    let headers = [("Content-Type", "text/csv"), ("Content-Encoding", "gzip")];
    exceeds(&app.upload_as(&app.key, UPLOAD, &headers, &bomb), "stored_bytes", 3_000_000, 0);
    let objects = app.data_dir().join("objects");
    app.until("nothing is left of it", || crate::support::app::files(&objects).is_empty().then_some(()));
    assert_eq!(app.upload(&app.key, file("a", 3)).0, 202);
}
