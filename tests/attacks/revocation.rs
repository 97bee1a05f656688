//! A key, a token or a session that is taken away: whoever has a copy of it has begun everything that takes long, and
//! holds on to it. It ends, whoever took the key away and by which door, and others notice nothing.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::app::{App, OPERATOR, Setup, people};

/// What is under way ends within a second, and a machine that is busy gets four more.
const SOON: Duration = Duration::from_secs(5);
/// Between two pieces of a trickled upload.
const TRICKLE: Duration = Duration::from_millis(50);
const FORM: &str = "/v2/client/users/batch/invite";

/// Something that takes long, begun and not ended.
struct UnderWay {
    what: &'static str,
    connection: TcpStream,
    /// What came of it so far.
    heard: Vec<u8>,
}

impl UnderWay {
    /// Sends a request with this header of whoever sends it, and waits until `until` came of it, where that is to come.
    fn begin(app: &App, what: &'static str, line: &str, who: &str, body: &str, until: &str) -> Self {
        let url = app.url("");
        let address = url.trim_start_matches("http://");
        let mut connection = TcpStream::connect(address).expect("the server listens");
        connection.set_read_timeout(Some(TRICKLE)).expect("set");
        write!(connection, "{line} HTTP/1.1\r\nHost: {address}\r\n{who}\r\n{body}").expect("sent");
        let mut this = Self { what, connection, heard: Vec::new() };
        app.until(what, || {
            this.hear();
            (until.is_empty() || this.has_heard(until)).then_some(())
        });
        this
    }

    /// Takes 64 KiB at most of what came; whether more may come.
    fn hear(&mut self) -> bool {
        let mut piece = vec![0; 64 << 10];
        match self.connection.read(&mut piece) {
            Ok(0) => false,
            Ok(length) => {
                self.heard.extend_from_slice(&piece[..length]);
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    fn has_heard(&self, text: &str) -> bool {
        self.heard.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Goes on, as long as it can. An upload sends one byte after the other.
    fn until_ended(mut self) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            if self.what == "upload" {
                // A connection that was closed is one that ended.
                let _ = self.connection.write_all(b"x");
            }
            let is_open = self.hear();
            let is_answered = match self.what {
                "upload" => self.has_heard("\r\n\r\n"),
                _ => self.heard.ends_with(b"\r\n0\r\n\r\n"),
            };
            if !is_open || is_answered {
                return String::from_utf8_lossy(&self.heard).into_owned();
            }
            assert!(Instant::now() < deadline, "the {} goes on", self.what);
        }
    }
}

fn upload(app: &App, who: &str, announced: usize, body: &str) -> UnderWay {
    let who = format!("{who}Content-Type: text/csv\r\nContent-Length: {announced}\r\n");
    UnderWay::begin(app, "upload", &format!("POST {FORM}?allow_duplicate=true"), &who, body, "")
}

fn events(app: &App, who: &str, id: &str) -> UnderWay {
    UnderWay::begin(app, "stream of events", &format!("GET /v2/batches/{id}/events"), who, "", "event: batch")
}

fn results(app: &App, who: &str, id: &str) -> UnderWay {
    UnderWay::begin(app, "download", &format!("GET /v2/batches/{id}/results.csv"), who, "", "first_name")
}

fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

/// More than all buffers of a connection hold together.
fn many_people() -> String {
    let name = "n".repeat(900);
    let people = (1..=8_000).map(|row| format!("p{row}@mail.example,{name},Smith,,AB1 2CD,1\n"));
    std::iter::once("email,first_name,last_name,phone,postcode,house_number\n".to_owned()).chain(people).collect()
}

fn is_broken_off(download: &str) -> bool {
    !download.ends_with("\r\n0\r\n\r\n") && download.lines().count() < 8_000
}

fn idle() -> App {
    App::start(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() })
}

fn batches_of(app: &App, client: &str) -> usize {
    let (_, page) = app.get(OPERATOR, &format!("/ops/v1/batches?client={client}"));
    page["batches"].as_array().expect("batches").len()
}

#[test]
fn what_a_clients_key_began_ends_with_the_key_by_every_door() {
    let app = idle();
    let globex = app.add_client("globex", None);
    let id = app.accepted(many_people());
    app.until_status(&id, "queued");
    let (_, of_globex) = app.upload(&globex, people(3));
    let of_globex = of_globex["id"].as_str().expect("an id");
    let mut bystander = events(&app, &bearer(&globex), of_globex);
    let rotated = |told: &Value| told["key"].as_str().expect("a key").to_owned();
    type Door<'a> = (&'a str, &'a dyn Fn() -> String);
    let doors: [Door<'_>; 2] = [
        ("command", &|| {
            let output = app.command(&["client", "rotate-key", "acme", "--now", "--json"]);
            rotated(&serde_json::from_slice(&output.stdout).expect("JSON"))
        }),
        ("API", &|| {
            let body = json!({ "old_key_works_for": "0s" });
            rotated(&app.post_json(OPERATOR, "/ops/v1/clients/acme/rotate-key", &body).1)
        }),
    ];
    let mut key = app.key.clone();
    for (door, rotate) in doors {
        let who = bearer(&key);
        let begun = [upload(&app, &who, 1 << 20, &people(5)), events(&app, &who, &id), results(&app, &who, &id)];
        key = rotate();
        let [upload, events, results] = begun.map(UnderWay::until_ended);
        assert!(upload.starts_with("HTTP/1.1 401"), "by {door}: {upload}");
        assert!(events.starts_with("HTTP/1.1 200") && is_broken_off(&results), "by {door}");
        assert_eq!(app.get(&key, &format!("/v2/batches/{id}")).0, 200, "the new key works");
        assert_eq!(batches_of(&app, "acme"), 1, "nothing of the upload was kept, by {door}");
    }
    assert_eq!(app.post(&key, &format!("/v2/batches/{id}/cancel")).0, 200);
    app.until("it has ended", || {
        (app.get(&key, &format!("/v2/batches/{id}")).1["status"] == "cancelled").then_some(())
    });
    let who = bearer(&key);
    let begun = [upload(&app, &who, 1 << 20, &people(5)), results(&app, &who, &id)];
    assert!(app.command(&["client", "remove", "acme"]).status.success());
    let [upload, results] = begun.map(UnderWay::until_ended);
    assert!(upload.starts_with("HTTP/1.1 401") && is_broken_off(&results), "{upload}");
    assert_eq!(batches_of(&app, "acme"), 1);

    bystander.heard.clear();
    app.post(&globex, &format!("/v2/batches/{of_globex}/pause"));
    app.until("the other client's stream goes on", || {
        assert!(bystander.hear(), "it ended");
        bystander.has_heard("\"paused\":true").then_some(())
    });
}

#[test]
fn an_upload_whose_last_byte_comes_right_behind_the_revocation_becomes_no_batch() {
    let app = idle();
    let mut key = app.key.clone();
    let file = people(50);
    let (front, end) = file.split_at(file.len() - 1);
    for _ in 0..5 {
        let mut upload = upload(&app, &bearer(&key), file.len(), front);
        let told = app.post_json(OPERATOR, "/ops/v1/clients/acme/rotate-key", &json!({ "old_key_works_for": "0s" }));
        key = told.1["key"].as_str().expect("a key").to_owned();
        upload.connection.write_all(end.as_bytes()).expect("sent");
        app.until("it is answered", || {
            upload.hear();
            upload.has_heard("\r\n\r\n").then_some(())
        });
        let answer = String::from_utf8_lossy(&upload.heard);
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        assert_eq!(batches_of(&app, "acme"), 0);
    }
    let (status, _) = app.upload(&key, &file);
    assert_eq!(status, 202, "the room of what was refused is free");
}

#[test]
fn an_operators_streams_end_with_the_operator_and_a_sessions_with_the_session() {
    let app = idle();
    let id = app.accepted(many_people());
    app.until_status(&id, "queued");
    let added = app.command(&["operator", "add", "ann", "--json"]);
    let added: Value = serde_json::from_slice(&added.stdout).expect("JSON");
    let ann = bearer(added["token"].as_str().expect("a token"));
    let begun = [events(&app, &ann, &id), results(&app, &ann, &id)];
    assert!(app.command(&["operator", "remove", "ann"]).status.success());
    let [_, results_of_ann] = begun.map(UnderWay::until_ended);
    assert!(is_broken_off(&results_of_ann));

    let signed_in = UnderWay::begin(
        &app,
        "sign-in",
        "POST /session",
        "Content-Type: application/json\r\nContent-Length: 46\r\n",
        &format!("{:46}", json!({ "key": app.key }).to_string()),
        "\r\n\r\n",
    );
    let answer = String::from_utf8_lossy(&signed_in.heard).into_owned();
    let cookie = answer.split_once("dripfeed_session=").expect("a cookie").1.split(';').next().expect("a value");
    let who = format!("Cookie: dripfeed_session={cookie}\r\n");
    let stream = events(&app, &who, &id);
    let origin = app.url("");
    let page = format!("{who}X-Dripfeed: page\r\nOrigin: {origin}\r\nContent-Length: 0\r\n");
    UnderWay::begin(&app, "sign-out", "DELETE /session", &page, "", "HTTP/1.1 204");
    stream.until_ended();
    let of_key = events(&app, &bearer(&app.key), &id);
    assert!(of_key.has_heard("event: batch"), "the key is as good as before");
}

#[test]
fn what_one_of_several_keys_began_ends_with_that_key_and_when_its_time_is_over() {
    let app = idle();
    let id = app.accepted(many_people());
    app.until_status(&id, "queued");
    let add = |name: &str, expires: &str| {
        let wanted = json!({ "name": name, "scopes": ["read", "upload"], "expires": expires });
        let (status, added) = app.post_json(OPERATOR, "/ops/v1/clients/acme/keys", &wanted);
        assert_eq!(status, 201, "{added}");
        bearer(added["key"].as_str().expect("a key"))
    };
    let mut bystander = events(&app, &bearer(&app.key), &id);
    let (job, short) = (add("job", "30d"), add("short", "4s"));
    let begun_by =
        |who: &str| [upload(&app, who, 1 << 20, &people(5)), events(&app, who, &id), results(&app, who, &id)];
    let begun = [begun_by(&job), begun_by(&short)];
    assert_eq!(app.delete(OPERATOR, "/ops/v1/clients/acme/keys/job").0, 204);
    for [upload, events, results] in begun {
        let [upload, events, results] = [upload, events, results].map(UnderWay::until_ended);
        assert!(upload.starts_with("HTTP/1.1 401"), "{upload}");
        assert!(events.starts_with("HTTP/1.1 200") && is_broken_off(&results));
    }
    assert_eq!(batches_of(&app, "acme"), 1, "nothing of the uploads was kept");
    let expired = &app.get(OPERATOR, "/ops/v1/clients/acme/keys").1["keys"][1];
    assert_eq!((&expired["name"], &expired["expired"]), (&json!("short"), &json!(true)), "it stays to be seen");
    let (status, refused) = app.post_json(OPERATOR, "/ops/v1/clients/acme/rotate-key", &json!({ "key": "short" }));
    assert_eq!(status, 409, "{refused}");

    bystander.heard.clear();
    app.post(&app.key, &format!("/v2/batches/{id}/pause"));
    app.until("the stream of the other key goes on", || {
        assert!(bystander.hear(), "it ended");
        bystander.has_heard("\"paused\":true").then_some(())
    });
}

/// A note for the audit waits for the lock meanwhile.
#[test]
fn what_a_key_began_ends_with_the_keys_time_while_the_database_is_locked() {
    let more = "[database]\nbusy_timeout = \"60s\"\n".to_owned();
    let app = App::start(Setup { more, dispatch: "min_interval = \"0s\"".into(), ..Setup::default() });
    let id = app.accepted(people(3));
    app.until_status(&id, "queued");
    let wanted = json!({ "name": "short", "scopes": ["read"], "expires": "4s" });
    let (status, added) = app.post_json(OPERATOR, "/ops/v1/clients/acme/keys", &wanted);
    assert_eq!(status, 201, "{added}");
    let events = events(&app, &bearer(added["key"].as_str().expect("a key")), &id);
    let elsewhere = rusqlite::Connection::open(app.data_dir().join("dripfeed.db")).expect("the app's database");
    elsewhere.busy_timeout(SOON).expect("set");
    elsewhere.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    assert_eq!(app.get("wrong", &format!("/v2/batches/{id}")).0, 401);
    events.until_ended();
    elsewhere.execute_batch("ROLLBACK").expect("let go");
    app.until("the wrong key is in the audit", || {
        let (_, audit) = app.get(OPERATOR, "/ops/v1/audit");
        let entries = audit["entries"].as_array().expect("entries");
        entries.iter().any(|entry| entry["action"] == "sign-in.failed").then_some(())
    });
}
