//! `results.csv`: the file's own columns and order, harmless in a spreadsheet, and taken back as it is.

use std::{
    collections::BTreeMap,
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::json;

use super::{count, delete, people_of_whom_rejected};
use crate::support::{
    app::{App, OPERATOR, Setup, agent, people},
    server::{Received, Reply, Server, ok, status},
};

const OURS: &str = "_batch,_row,_line,_status,_check_id,_error_step,_error_code,_error_message,_cells";

/// A download: its bytes, and what its head says.
fn download(app: &App, key: &str, id: &str, query: &str) -> (u16, String, String) {
    let request = agent().get(app.url(&format!("/v2/batches/{id}/results.csv{query}")));
    let mut response = request.header("Authorization", format!("Bearer {key}")).call().expect("an answer");
    let head = format!("{:?}", response.headers());
    let mut text = String::new();
    response.body_mut().as_reader().read_to_string(&mut text).expect("a body");
    (response.status().as_u16(), head, text)
}

fn results(app: &App, id: &str, query: &str) -> String {
    let (status, _, text) = download(app, &app.key, id, query);
    assert_eq!(status, 200, "{text}");
    text
}

/// The records of a CSV, by their columns.
fn records(text: &str) -> Vec<BTreeMap<String, String>> {
    csv::Reader::from_reader(text.as_bytes()).deserialize().map(|record| record.expect("a record")).collect()
}

fn column(text: &str, name: &str) -> Vec<String> {
    records(text).iter().map(|record| record[name].clone()).collect()
}

#[test]
fn results_have_the_files_own_columns_and_order_and_the_same_bytes_every_time() {
    let more = "[workflows.invite]\nextra_columns = \"keep\"".to_owned();
    let app = App::start(Setup { more, ..Setup::default() });
    let other_key = app.add_client("globex", None);
    let file = "Last_Name;note; email ;first_name;postcode;house_number\n\
                Smith;\"says \"\"hi\"\";\nand goes\";ann@mail.example;Ann;AB1 2CD;1\n\
                \nJones;;bob@rejected.example;Bob;AB1 2CD;2\n  Lee ;x;cy@mail.example;Cy;AB1 2CD;3\n";
    let id = app.accepted(file);
    let others = app.upload(&other_key, people(2)).1["id"].as_str().expect("an id").to_owned();
    app.until_status(&id, "completed");
    let (status, head, text) = download(&app, &app.key, &id, "");
    assert_eq!(status, 200);
    for said in ["text/csv; charset=utf-8", "attachment", &format!("{id}-results.csv"), "no-store"] {
        assert!(head.contains(said), "{said} in {head}");
    }
    assert_eq!(
        text.lines().next(),
        Some(format!("Last_Name,note, email ,first_name,postcode,house_number,{OURS}").as_str())
    );
    let found = records(&text);
    assert_eq!(column(&text, "Last_Name"), ["Smith", "Jones", "  Lee "]);
    assert_eq!(column(&text, "note"), ["says \"hi\";\nand goes", "", "x"]);
    assert_eq!(column(&text, "_row"), ["1", "2", "3"]);
    assert_eq!(column(&text, "_line"), ["2", "5", "6"]);
    assert_eq!(column(&text, "_status"), ["completed", "failed", "completed"]);
    assert!(found[0]["_check_id"].starts_with("chk_") && found[0]["_error_code"].is_empty(), "{found:?}");
    assert_eq!((found[1]["_error_step"].as_str(), found[1]["_error_code"].as_str()), ("invite-create", "rejected"));
    assert!(!found[1]["_error_message"].is_empty() && found[1]["_check_id"].is_empty());
    assert!(found.iter().all(|record| record["_batch"] == id && record["_cells"] == "safe"));
    assert_eq!(results(&app, &id, ""), text);

    assert_eq!(column(&results(&app, &id, "?status=failed"), "_row"), ["2"]);
    assert_eq!(column(&results(&app, &id, "?code=rejected"), "_row"), ["2"]);
    assert_eq!(column(&results(&app, &id, "?status=completed"), "_row"), ["1", "3"]);
    let empty = results(&app, &id, "?status=cancelled");
    assert_eq!(empty.lines().count(), 1, "an empty selection is a header");
    assert_eq!(download(&app, &app.key, &id, "?status=none").0, 400);
    assert_eq!(download(&app, &app.key, &id, "?colour=red").0, 400);
    assert_eq!(download(&app, &app.key, &others, "").0, 404);
    assert_eq!(download(&app, "wrong-key", &id, "").0, 401);
    let masked = download(&app, OPERATOR, &id, "").2;
    assert!(column(&masked, "Last_Name").iter().all(|cell| cell == "•••") && !masked.contains("ann@"), "{masked}");
    assert_eq!(column(&masked, "_status"), column(&text, "_status"));
}

#[test]
fn cells_that_a_spreadsheet_would_run_are_harmless_and_raw_ones_are_exact() {
    let app = App::start(Setup::default());
    // What it is, and what it has to be in the safe form.
    let cells = [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("＝1+1", "'＝1+1"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("\nx", "'\nx"),
        ("'quoted", "''quoted"),
        ("''=2", "'''=2"),
        ("plain", "plain"),
        ("a=b", "a=b"),
        (" =3", " '=3"),
        ("x;=cmd|' /C calc'!A0", "x;'=cmd|' /C calc'!A0"),
        ("x\n=cmd", "x\n'=cmd"),
        ("x\",\"=cmd", "x\",\"'=cmd"),
        ("007", "'007"),
        ("1-2", "'1-2"),
        ("12E5", "'12E5"),
        ("123456789012", "'123456789012"),
        ("12", "12"),
    ];
    let (names, protected): (Vec<_>, Vec<_>) = cells.into_iter().unzip();
    let mut file = csv::Writer::from_writer(Vec::new());
    file.write_record(["email", "first_name", "last_name", "postcode", "house_number"]).expect("written");
    for (number, name) in names.iter().enumerate() {
        let email = format!("p{number}@rejected.example");
        file.write_record([email.as_str(), name, "Smith", "AB1 2CD", "1"]).expect("written");
    }
    let id = app.accepted(file.into_inner().expect("written"));
    app.until_status(&id, "completed");
    let safe = results(&app, &id, "?status=failed");
    assert_eq!(column(&safe, "first_name"), protected);
    let raw = results(&app, &id, "?status=failed&raw=true");
    assert_eq!(column(&raw, "first_name"), names);
    assert!(column(&raw, "_cells").iter().all(|cells| cells == "raw"));

    // Either form comes back as what it was.
    for form in [&safe, &raw] {
        let again = app.accepted(form);
        app.until_status(&again, "completed");
        assert_eq!(column(&results(&app, &again, "?raw=true"), "first_name"), names);
    }
}

#[test]
fn a_corrected_failed_file_is_taken_back_and_what_was_not_corrected_keeps_its_keys() {
    let server = Server::start(|request| match request.path() {
        "/address-links" => ok(r#"{"link": "l-1"}"#),
        "/addresses" => ok(r#"{"addresses": [{"id": "a-1"}]}"#),
        _ => status(422),
    });
    let app = App::start(Setup { downstream: Some(server.address), ..Setup::default() });
    let file = "email,first_name,last_name,phone,postcode,house_number\n\
                ann@mail.example,=Ann,'Smith,,AB1 2CD,1\nbob@mail.example,Bob,Jones,,AB1 2CD,2\n";
    let mut id = app.accepted(file);
    app.until_status(&id, "completed");
    let keys = |email: &str| -> Vec<String> {
        let of_person = |request: &&Received| request.path() == "/invites" && request.body.contains(email);
        server.received().iter().filter(of_person).map(|it| it.headers["idempotency-key"].clone()).collect()
    };
    // Three times around, in both forms; Bob's name is corrected each time.
    for (round, query) in ["?status=failed", "?status=failed&raw=true", "?status=failed"].into_iter().enumerate() {
        let name = column(&results(&app, &id, ""), "last_name")[1].clone();
        let failed = results(&app, &id, query).replace(&format!(",{name},"), &format!(",Jones{round},"));
        id = app.accepted(failed);
        app.until_status(&id, "completed");
    }
    let (ann, bob) = (keys("ann@"), keys("bob@"));
    assert_eq!((ann.len(), bob.len()), (4, 4));
    assert!(ann.iter().all(|key| *key == ann[0]), "the same request of the same row: {ann:?}");
    let distinct: std::collections::BTreeSet<_> = bob.iter().collect();
    assert_eq!(distinct.len(), 4, "a corrected one is another request: {bob:?}");
    let bodies: Vec<_> = server
        .received()
        .iter()
        .filter(|it| it.path() == "/invites" && it.body.contains("ann@"))
        .map(|it| it.body.clone())
        .collect();
    assert!(bodies.iter().all(|body| body.contains("\"=Ann\"") && body.contains("\"'Smith\"")), "{bodies:?}");
}

#[test]
fn what_may_have_been_done_is_not_in_the_failed_file_unless_asked_for() {
    let silent = Arc::new(AtomicBool::new(true));
    let server = Server::start({
        let silent = silent.clone();
        move |request| match request.path() {
            "/address-links" => ok(r#"{"link": "l-1"}"#),
            "/addresses" => ok(r#"{"addresses": [{"id": "a-1"}]}"#),
            _ if request.body.contains("p1@") => status(422),
            _ if silent.load(Ordering::SeqCst) => Reply::Silence,
            _ => status(422),
        }
    });
    let more = "[workflows.invite]\nrepeat_window = \"0s\"\nmax_attempts = 2".to_owned();
    let dependency = "rate_per_second = 1000\nburst = 50\ntimeout = \"1s\"\ngate_after = 1000".into();
    let app = App::start(Setup { downstream: Some(server.address), more, dependency, ..Setup::default() });
    let id = app.accepted(people(2));
    app.until_status(&id, "completed");
    assert_eq!(column(&results(&app, &id, ""), "_error_code"), ["rejected", "outcome_unknown"]);
    assert_eq!(column(&results(&app, &id, "?status=failed"), "_row"), ["1"]);
    assert_eq!(column(&results(&app, &id, "?status=failed&code=outcome_unknown"), "_row"), ["2"]);
    assert_eq!(column(&results(&app, &id, "?code=outcome_unknown"), "_row"), ["2"]);
}

#[test]
fn the_failed_file_holds_what_a_retry_without_a_code_would_retry() {
    let server = Server::start(|request| match request.path() {
        "/address-links" if request.body.contains("\"2\"") => ok(r#"{"link": "l-none"}"#),
        "/address-links" => ok(r#"{"link": "l-1"}"#),
        // Safe to repeat, and not what the step needs.
        "/addresses" if request.line.contains("l-none") => ok(r#"{"addresses": []}"#),
        "/addresses" => ok(r#"{"addresses": [{"id": "a-1"}]}"#),
        // Created, and not what the step needs: to send it again could create it twice.
        _ if request.body.contains("p2@") => ok("{}"),
        _ if request.body.contains("p3@") => status(422),
        _ => ok(r#"{"check_id": "c-1"}"#),
    });
    let app = App::start(Setup { downstream: Some(server.address), ..Setup::default() });
    // House numbers are 2, 3, 4, 5.
    let id = app.accepted(people(4));
    let others = app.accepted(people(4).replace("@mail.example", "@other.example"));
    app.until_status(&id, "completed");
    app.until_status(&others, "completed");
    let all = results(&app, &id, "");
    assert_eq!(column(&all, "_error_code"), ["bad_answer", "bad_answer", "rejected", ""]);
    assert_eq!(column(&all, "_error_step"), ["get-addresses", "invite-create", "invite-create", ""]);
    assert_eq!(column(&results(&app, &id, "?status=failed"), "_row"), ["1", "3"]);
    assert_eq!(column(&results(&app, &id, "?status=failed&code=bad_answer"), "_row"), ["1", "2"]);
    assert_eq!(column(&results(&app, &id, "?code=bad_answer"), "_row"), ["1", "2"]);
    let (status, retried) = app.post(&app.key, &format!("/v2/batches/{id}/retry"));
    assert_eq!(status, 200, "{retried}");
    let says = json!({ "rows": 2, "under_way": false, "left_alone_outcome_unknown": 0, "left_alone_bad_answer": 1 });
    assert_eq!(retried["retried"], says);
}

#[test]
fn a_download_can_begin_while_work_goes_on_and_comes_in_pieces() {
    let app = App::start(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() });
    let id = app.accepted(people(1_700));
    app.until_status(&id, "queued");
    let text = results(&app, &id, "");
    let numbers: Vec<String> = (1..=1_700).map(|number: u32| number.to_string()).collect();
    assert_eq!(column(&text, "_row"), numbers, "more rows than one piece has, each once, in order");
    assert!(column(&text, "_status").iter().all(|status| status == "pending"));
    app.post(&app.key, &format!("/v2/batches/{id}/cancel"));
    app.until_status(&id, "cancelled");
    assert_eq!(column(&results(&app, &id, "?status=cancelled"), "_row"), numbers);
    assert_eq!(column(&results(&app, &id, "?status=pending"), "_row"), Vec::<String>::new());
}

#[test]
fn a_slow_or_vanished_reader_keeps_nobody_from_the_database() {
    let app = App::start(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() });
    // More than the sockets' buffers between hold.
    let id = app.accepted(people(20_000).replace(",Ann,", &format!(",{},", "Ann".repeat(200))));
    app.until_status(&id, "queued");
    app.post(&app.key, &format!("/v2/batches/{id}/cancel"));
    app.until_status(&id, "cancelled");
    let begin = || {
        let request = agent().get(app.url(&format!("/v2/batches/{id}/results.csv")));
        let mut reader = request
            .header("Authorization", format!("Bearer {}", app.key))
            .call()
            .expect("an answer")
            .into_body()
            .into_reader();
        reader.read_exact(&mut [0; 1_000]).expect("its beginning");
        reader
    };
    // More readers than there are threads or connections to the database, none of which goes on reading.
    let readers: Vec<_> = (0..40).map(|_| begin()).collect();
    assert_eq!(app.rows(&id).len(), 20_000);
    assert_eq!(delete(&app, &app.key, &format!("/v2/batches/{id}")).0, 200);
    app.until("the deletion is carried out", || {
        (app.get(OPERATOR, "/ops/v1/overview").1["deletions"] == json!([])).then_some(())
    });
    // Whoever was in the middle hears that the rest does not come.
    let mut rest = String::new();
    let broken = readers.into_iter().map(|mut reader| reader.read_to_string(&mut rest).is_err()).collect::<Vec<_>>();
    assert!(broken.iter().all(|broken| *broken), "{broken:?}");
    assert_eq!(count(&app, "SELECT count(*) FROM rows WHERE row > ?", 0), 0);
}

#[test]
fn a_download_of_thousands_of_rows_with_few_that_fit_finds_them_all() {
    let app = App::start(Setup {
        dispatch: "every = \"1s\"\nmin_interval = \"0s\"\nrows_per_client_per_run = 100000".into(),
        ..Setup::default()
    });
    let id = app.accepted(people_of_whom_rejected(1_200, |row| row % 400 == 0));
    app.until_status(&id, "completed");
    assert_eq!(column(&results(&app, &id, "?status=failed"), "_row"), ["400", "800", "1200"]);
    assert_eq!(column(&results(&app, &id, "?status=completed"), "_row").len(), 1_197);
}
