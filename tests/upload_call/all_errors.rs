//! All errors of a bad file, as a file.

use serde_json::json;

use crate::{
    Answer, CSV, HEADER, PATH, database, gzip, idle, kept,
    support::app::{App, people},
    upload,
};

const WANTS_CSV: (&str, &str) = ("Accept", "text/csv");

fn send(app: &App, query: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    upload(app, &app.key, &format!("{PATH}{query}"), &[&[CSV], headers].concat(), body)
}

/// The records of a CSV of errors.
fn errors(answer: &Answer) -> Vec<Vec<String>> {
    let mut records = csv::ReaderBuilder::new().has_headers(false).from_reader(&answer.body[..]);
    let all: Vec<Vec<String>> =
        records.records().map(|record| record.expect("CSV").iter().map(str::to_owned).collect()).collect();
    assert_eq!(all[0], ["line", "column", "column_number", "code", "message"]);
    all[1..].to_vec()
}

#[test]
fn every_error_of_a_file_comes_in_the_order_of_its_lines_and_nothing_is_kept() {
    let app = idle();
    const ROWS: usize = 30_000;
    // Each row lacks two values, and repeats the address of the first.
    let body = HEADER.to_owned() + &"a@mail.example,,Smith,,AB1 2CD,\n".repeat(ROWS);
    for (query, headers, body) in [
        ("", vec![WANTS_CSV], body.as_bytes().to_vec()),
        ("?validate_only=true", vec![WANTS_CSV, ("Content-Encoding", "gzip")], gzip(body.as_bytes())),
    ] {
        let answer = send(&app, query, &headers, &body);
        assert_eq!((answer.status, answer.header("content-type")), (422, Some("text/csv; charset=utf-8")), "{query}");
        assert!(answer.header("x-request-id").is_some());
        let told = errors(&answer);
        assert_eq!(told.len(), 3 * ROWS - 1);
        assert_eq!(told[0][..4], ["2", "first_name", "2", "missing_value"]);
        assert_eq!(told[1][..4], ["2", "house_number", "6", "missing_value"]);
        assert_eq!(told[2][..4], ["3", "email", "1", "duplicate_value"]);
        assert_eq!(told[2][4], "the value stands in line 2 already");
        let lines: Vec<u64> = told.iter().map(|error| error[0].parse().expect("a line")).collect();
        assert!(lines.is_sorted() && lines.last() == Some(&(ROWS as u64 + 1)));
        assert_eq!(kept(&app), (0, 0, 0), "{query}");
    }
    assert_eq!(send(&app, "", &[WANTS_CSV], people(2).as_bytes()).status, 202, "a good file is told as ever");
}

#[test]
fn the_file_says_what_the_problem_says_for_those_who_ask_for_it() {
    let app = idle();
    let row = "a@mail.example,Ann,Smith,,AB1 2CD,1\n";
    for body in [
        String::new(),
        HEADER.to_owned(),
        format!("=colour,{HEADER}{row}"),
        format!("email,first_name\n{row}"),
        format!("{HEADER}nobody,,Smith,,AB1 2CD,1\n\"b@mail.example,Bob"),
        format!("{HEADER}nobody\n{row}{row}"),
    ] {
        let problem = send(&app, "", &[("Accept", "*/*")], body.as_bytes());
        assert_eq!(problem.code(), (422, "invalid_file".to_owned()));
        for query in ["", "?validate_only=true"] {
            let told = errors(&send(&app, query, &[("Accept", "application/json;q=0.5, text/csv")], body.as_bytes()));
            let listed = problem.json()["errors"].as_array().expect("errors").clone();
            assert_eq!(told.len(), listed.len());
            for (told, listed) in told.iter().zip(&listed) {
                let text = |name: &str| match &listed[name] {
                    serde_json::Value::Null => String::new(),
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                assert_eq!((&told[0], &told[2], &told[3]), (&text("line"), &text("column_number"), &text("code")));
                assert_eq!((told[1].trim_start_matches('\''), &told[4]), (text("column").as_str(), &text("message")));
            }
        }
    }
    let long = format!("email,colour\n{}", "x".repeat(12 << 20));
    let told = errors(&send(&app, "", &[WANTS_CSV], long.as_bytes()));
    assert!(told.iter().any(|error| error[3] == "unknown_column"), "refused at its header, however long it is");
    let other = send(&app, "", &[WANTS_CSV, ("Content-Encoding", "br")], b"");
    assert_eq!(other.code(), (415, "unsupported_media_type".to_owned()), "other problems stay problems");
    assert_eq!(kept(&app), (0, 0, 0));
    let noted: i64 = database(&app).query_row("SELECT count(*) FROM uploads", [], |row| row.get(0)).expect("counted");
    assert_eq!((noted, app.log().contains("colour")), (0, false));
    assert_eq!(app.get(&app.key, "/v2/batches").1["batches"], json!([]));
}
