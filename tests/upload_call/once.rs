//! `Idempotency-Key`: an upload is made once, however often it is sent.

use std::io::Write;

use serde_json::json;

use crate::{
    Answer, CSV, HEADER, PATH, database, form, gzip, idle, kept, read,
    support::app::{App, agent, people},
    upload,
};

const KEY: (&str, &str) = ("Idempotency-Key", "spring-2026/1");

fn send(app: &App, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
    upload(app, &app.key, PATH, &[&[CSV], headers].concat(), body.as_ref())
}

fn remembered(app: &App) -> u32 {
    database(app).query_row("SELECT count(*) FROM upload_keys", [], |row| row.get(0)).expect("counted")
}

#[test]
fn the_same_upload_again_gets_the_first_answer_again_whatever_became_of_the_batch() {
    let app = idle();
    let context = ("X-Dripfeed-Context", "{\"campaign\":\"spring\",\"wave\":{\"b\":1,\"a\":2}}");
    let first = send(&app, &[KEY, context], people(3));
    let id = first.id();
    assert_eq!(first.header("idempotency-replayed"), None);
    app.until_status(&id, "queued");
    app.post(&app.key, &format!("/v2/batches/{id}/cancel"));

    let (content_type, body) = form(&[
        ("name=\"file\"; filename=\"other-name.csv\"", &people(3)),
        ("name=\"context\"", "{\"wave\":{\"a\":2,\"b\":1},\"campaign\":\"spring\"}"),
    ]);
    let other = app.add_client("other", None);
    let again = [
        send(&app, &[KEY, context], people(3)),
        send(&app, &[("Idempotency-Key", "\"spring-2026/1\""), context], people(3)),
        send(&app, &[KEY, context, ("Content-Encoding", "gzip")], gzip(people(3).as_bytes())),
        upload(&app, &app.key, PATH, &[KEY, ("Content-Type", &content_type)], &body[..]),
        upload(&app, &app.key, &format!("{PATH}?allow_duplicate=true"), &[KEY, CSV, context], people(3)),
    ];
    for answer in again {
        assert_eq!((answer.status, &answer.body), (202, &first.body), "byte for byte");
        assert_eq!(answer.header("idempotency-replayed"), Some("true"));
        assert_eq!(answer.header("location"), first.header("location"));
        assert_ne!(answer.header("x-request-id"), first.header("x-request-id"));
    }
    assert_eq!(kept(&app), (1, 1, 0));
    let of_other = upload(&app, &other, PATH, &[KEY, CSV, context], people(3));
    assert_ne!(of_other.id(), id, "another client's key is another key");
    assert_eq!(upload(&app, &other, PATH, &[KEY, CSV, context], people(3)).body, of_other.body);
    assert_eq!(send(&app, &[KEY, context], people(3)).body, first.body);
}

#[test]
fn a_key_stands_for_one_file_and_one_context() {
    let app = idle();
    let first = send(&app, &[KEY], people(2));
    let reused = (422, "idempotency_key_reused".to_owned());
    let context = ("X-Dripfeed-Context", "{\"wave\":1}");
    assert_eq!(send(&app, &[KEY], people(3)).code(), reused);
    assert_eq!(send(&app, &[KEY, context], people(2)).code(), reused);
    assert_eq!(send(&app, &[KEY], "nonsense").code(), reused, "one that would be refused is another file as well");
    assert_eq!(send(&app, &[KEY, ("Content-Encoding", "gzip")], people(2)).code(), reused);
    assert_eq!(send(&app, &[("Idempotency-Key", "other")], people(2)).code(), (409, "duplicate_file".to_owned()));
    assert_eq!(send(&app, &[], people(2)).code(), (409, "duplicate_file".to_owned()));
    assert_eq!(
        send(&app, &[KEY, ("X-Dripfeed-Context", "{}")], people(2)).body,
        first.body,
        "no context is an empty one"
    );
    assert_eq!(kept(&app), (1, 1, 0));
}

#[test]
fn a_refused_upload_is_not_remembered_and_a_check_only_neither() {
    let app = idle();
    assert_eq!(send(&app, &[KEY], format!("{HEADER}nobody,Ann,Smith,,AB1 2CD,1\n")).code().1, "invalid_file");
    let check = upload(&app, &app.key, &format!("{PATH}?validate_only=true"), &[KEY, CSV], people(9));
    assert_eq!((check.status, &check.json()["rows"]), (200, &json!(9)));
    let taken = send(&app, &[], people(4)).id();
    let duplicate = send(&app, &[KEY], people(4));
    assert_eq!((duplicate.code().1.as_str(), &duplicate.json()["batch"]), ("duplicate_file", &json!(taken)));
    assert_eq!(remembered(&app), 0);
    let corrected = send(&app, &[KEY], people(2));
    assert_eq!((corrected.status, corrected.header("idempotency-replayed")), (202, None));
    let check = upload(&app, &app.key, &format!("{PATH}?validate_only=true"), &[KEY, CSV], people(9));
    assert_eq!((check.status, remembered(&app)), (200, 1), "a check is answered for itself");
}

#[test]
fn keys_have_a_form() {
    let app = idle();
    let (long, longest) = ("k".repeat(256), "k".repeat(255));
    for wrong in ["", "\"\"", "\"open", "k\u{e9}y", long.as_str()] {
        let answer = send(&app, &[("Idempotency-Key", wrong)], people(1));
        assert_eq!(answer.code(), (400, "bad_request".to_owned()), "{wrong}");
    }
    assert_eq!(send(&app, &[("Idempotency-Key", "one"), ("Idempotency-Key", "other")], people(1)).status, 400);
    assert_eq!(send(&app, &[("Idempotency-Key", &longest)], people(1)).status, 202);
}

#[test]
fn a_key_is_in_use_until_its_upload_ends() {
    let app = idle();
    let slow = |name: &'static str| {
        let (pipe, held) = std::io::pipe().expect("a pipe");
        let (url, key) = (app.url(PATH), app.key.clone());
        let sending = std::thread::spawn(move || {
            let request = agent().post(url).header("Authorization", format!("Bearer {key}"));
            let request = request.header("Content-Type", "text/csv").header("Idempotency-Key", name);
            request.send(ureq::SendBody::from_owned_reader(pipe)).map(read)
        });
        (held, sending)
    };
    let (mut held, sending) = slow(KEY.1);
    held.write_all(HEADER.as_bytes()).expect("the pipe is open");
    app.until("it is under way", || (kept(&app).1 == 1).then_some(()));
    let busy = send(&app, &[KEY], "no file at all");
    assert_eq!(busy.code().1, "idempotency_key_in_use");
    assert!(busy.header("retry-after").is_some());
    assert_eq!(send(&app, &[("Idempotency-Key", "other")], people(2)).status, 202, "other keys are free");
    held.write_all(b"a@mail.example,Ann,Smith,,AB1 2CD,1\n").expect("the pipe is open");
    drop(held);
    let first = sending.join().expect("sent").expect("an answer");
    assert_eq!(first.status, 202);
    let again = send(&app, &[KEY], format!("{HEADER}a@mail.example,Ann,Smith,,AB1 2CD,1\n"));
    assert_eq!((again.status, again.body), (202, first.body));

    let (content, key) = (people(30), "broken");
    let mut connection = std::net::TcpStream::connect(app.url("").trim_start_matches("http://")).expect("connected");
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: text/csv\r\n\
         Idempotency-Key: {key}\r\nContent-Length: 100000\r\n\r\n{content}",
        app.key
    );
    connection.write_all(head.as_bytes()).expect("sent");
    app.until("it is under way", || (kept(&app).1 == 3).then_some(()));
    assert_eq!(send(&app, &[("Idempotency-Key", key)], &content).code(), (409, "idempotency_key_in_use".to_owned()));
    connection.shutdown(std::net::Shutdown::Both).expect("broken off");
    let first = app.until("the broken one has let go", || {
        Some(send(&app, &[("Idempotency-Key", key)], &content)).filter(|answer| answer.status == 202)
    });
    assert_eq!(first.header("idempotency-replayed"), None, "nothing came of the broken one");
}

#[test]
fn two_at_once_become_one_batch() {
    let app = idle();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let sending: Vec<_> = (0..4).map(|_| scope.spawn(|| send(&app, &[KEY], people(200)))).collect();
        sending.into_iter().map(|sending| sending.join().expect("sent")).collect()
    });
    let accepted: Vec<_> = answers.iter().filter(|answer| answer.status == 202).collect();
    assert!(accepted.iter().all(|answer| answer.body == accepted[0].body));
    assert_eq!(accepted.iter().filter(|answer| answer.header("idempotency-replayed").is_none()).count(), 1);
    let rest = answers.iter().filter(|answer| answer.status != 202);
    rest.for_each(|answer| assert_eq!(answer.code().1, "idempotency_key_in_use"));
    assert_eq!(kept(&app), (1, 1, 0));
}

#[test]
fn a_key_outlives_the_process_and_not_its_day_and_tells_nothing() {
    let mut app = idle();
    let (content_type, body) = form(&[("name=\"file\"; filename=\"patients.csv\"", &people(2))]);
    let headers = [KEY, ("Content-Type", content_type.as_str())];
    let first = upload(&app, &app.key, PATH, &headers, &body[..]);
    app.kill();
    app.serve();
    let again = upload(&app, &app.key, PATH, &headers, &body[..]);
    assert_eq!((again.status, &again.body), (202, &first.body));
    let database = database(&app);
    let (path, hash, answer): (String, Vec<u8>, Vec<u8>) = database
        .query_row("SELECT path, key_hash, answer FROM upload_keys", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .expect("one row");
    assert_eq!((path.as_str(), hash.len()), (PATH, 32));
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!holds(&answer, "patients") && !holds(&answer, &first.id()), "the answer is sealed");
    assert!(!holds(&hash, &KEY.1[..8]) && !app.log().contains(KEY.1));

    // A day later: of two keys one has expired.
    let other = send(&app, &[("Idempotency-Key", "other")], people(5));
    database.execute("UPDATE upload_keys SET expires_at = 1 WHERE key_hash = ?", [&hash]).expect("aged");
    let twice = format!("{PATH}?allow_duplicate=true");
    let anew = upload(&app, &app.key, &twice, &headers, &body[..]);
    assert_ne!(anew.id(), first.id(), "the key is new");
    assert_eq!(upload(&app, &app.key, PATH, &headers, &body[..]).body, anew.body);
    database.execute("UPDATE upload_keys SET expires_at = 1 WHERE key_hash = ?", [&hash]).expect("aged");
    app.until("the expired one is swept", || (remembered(&app) == 1).then_some(()));
    assert_eq!(send(&app, &[("Idempotency-Key", "other")], people(5)).body, other.body, "the other one is not");
}

#[cfg(feature = "failpoints")]
#[test]
fn an_upload_whose_answer_a_crash_swallowed_is_answered_when_it_is_sent_again() {
    for (point, batches_before) in [("upload.stored", 0), ("upload.committed", 1)] {
        let mut app = idle();
        app.kill();
        app.launch(&[("FAILPOINTS", &format!("{point}=return"))]);
        assert!(app.listens());
        let request = agent().post(app.url(PATH)).header("Authorization", format!("Bearer {}", app.key));
        let request = request.header("Content-Type", "text/csv").header(KEY.0, KEY.1);
        assert!(request.send(people(3)).is_err(), "no answer comes from {point}");
        app.kill();
        app.serve();
        assert_eq!(kept(&app), (batches_before, batches_before, 0), "{point}");
        let again = send(&app, &[KEY], people(3));
        let replayed = (batches_before == 1).then_some("true");
        assert_eq!((again.status, again.header("idempotency-replayed")), (202, replayed), "{point}");
        assert_eq!(kept(&app), (1, 1, 0), "{point}");
        assert_eq!(app.until_status(&again.id(), "queued")["counts"]["total"], 3);
    }
}
