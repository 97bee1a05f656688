//! Outages of everything that dripfeed leans on: nothing is lost, nothing is done twice, whoever is told "no" is told
//! what to do, and when the outage is over everything goes on by itself.

#[path = "../support/mod.rs"]
mod support;

mod bucket;
mod crowd;
mod damage;
mod dependency;
mod disk;
mod drift;
mod lock;

use rusqlite::{Connection, OpenFlags};
use support::app::App;

/// The database of an app, as another process sees it.
fn database(app: &App) -> Connection {
    // No file is made where there is none: a wrong path is a wrong test.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    Connection::open_with_flags(app.data_dir().join("dripfeed.db"), flags).expect("the app's database")
}

/// Waits until nothing is left of uploads that were refused.
fn until_no_upload_is_left(app: &App) {
    let database = database(app);
    app.until("nothing is left of a refused upload", || {
        let noted: i64 = database.query_row("SELECT count(*) FROM uploads", [], |row| row.get(0)).expect("counted");
        (noted == 0).then_some(())
    });
}

/// How many batches the client has.
fn batches(app: &App) -> usize {
    let (status, list) = app.get(&app.key, "/v2/batches");
    assert_eq!(status, 200, "{list}");
    list["batches"].as_array().expect("batches").len()
}

/// Every row was called for once a step, and has its own invite.
fn assert_each_row_once(app: &App, rows: u64) {
    let stats = app.stats();
    let calls = [stats.calls.address_links, stats.calls.get_addresses, stats.calls.invite_create];
    assert_eq!((calls, stats.invites), ([rows; 3], rows), "{stats:?}");
    assert_eq!((stats.replayed, stats.duplicate_invites), (0, 0), "{stats:?}");
}

/// A CSV whose rows are large, so that few of them are many bytes.
fn wide_people(rows: usize) -> String {
    let wide = "n".repeat(900);
    let mut csv = String::from("email,first_name,last_name,phone,postcode,house_number\n");
    csv.extend((1..=rows).map(|row| format!("w{row}@mail.example,{wide},{wide},,AB1 2CD,{}\n", row % 200 + 1)));
    csv
}

/// The numbers of a batch's rows, in the order in which they are listed.
fn row_numbers(app: &App, id: &str) -> Vec<u64> {
    app.rows(id).iter().map(|row| row["row"].as_u64().expect("a number")).collect()
}
