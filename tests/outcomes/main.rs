//! What a client does with a batch once it is in the work table: look at what failed, try it again, take the results
//! away, and delete it.

mod deletion;
mod failures;
mod results;
mod retry;
mod workflows;

#[path = "../support/mod.rs"]
mod support;

use serde_json::Value;
use support::app::{App, agent};

/// The database, as an auditor would look at it.
fn database(app: &App) -> rusqlite::Connection {
    let path = app.data_dir().join("dripfeed.db");
    rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the database")
}

fn count(app: &App, sql: &str, id: impl rusqlite::ToSql) -> i64 {
    database(app).query_row(sql, [id], |row| row.get(0)).expect(sql)
}

fn delete(app: &App, key: &str, path: &str) -> (u16, Value) {
    let request = agent().delete(app.url(path)).header("Authorization", format!("Bearer {key}"));
    let mut response = request.call().expect("an answer");
    let text = response.body_mut().read_to_string().expect("a body");
    (response.status().as_u16(), serde_json::from_str(&text).expect("JSON"))
}

/// A CSV whose rows are rejected where their number is among `rejected`.
fn people_of_whom_rejected(rows: usize, rejected: impl Fn(usize) -> bool) -> String {
    let mut csv = String::from("email,first_name,last_name,phone,postcode,house_number\n");
    for row in 1..=rows {
        let domain = if rejected(row) { "rejected.example" } else { "mail.example" };
        csv.push_str(&format!("p{row}@{domain},Ann,Smith,07700 900123,AB1 2CD,{}\n", row % 200 + 1));
    }
    csv
}
