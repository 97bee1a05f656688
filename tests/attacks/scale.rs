//! A database with thousands of clients and of batches: what people look at costs the same as with few. It is counted in what
//! SQLite does, and not in time.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use dripfeed::{
    model::Timestamp,
    store::{StoreError, all_batches, batches, clients, grants, pages::Most, stuck, troubles},
};
use rusqlite::Connection;

use crate::{
    lists::copy,
    raw::idle,
    support::app::{App, OPERATOR, people},
};

/// By then every claim has expired.
const EVER: Timestamp = Timestamp(i64::MAX);
/// A page of each list.
const PAGE: Most = Most::entries(50);

/// What a look at the database takes: instructions of SQLite's virtual machine.
fn steps<T>(database: &mut Connection, look: impl FnOnce(&Connection) -> Result<T, StoreError>) -> u64 {
    let steps = Arc::new(AtomicU64::new(0));
    let counted = steps.clone();
    let count = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        false
    };
    database.progress_handler(1, Some(count)).expect("counted");
    look(database).unwrap_or_else(|error| panic!("{error}"));
    database.progress_handler(0, None::<fn() -> bool>).expect("not counted");
    steps.load(Ordering::Relaxed)
}

/// A server's database with so many clients and batches, each of which waits with a row, and so many dispatch runs.
fn database(clients: usize, batches: usize) -> (App, Connection) {
    let mut app = App::start(idle());
    assert_eq!(app.post(OPERATOR, "/ops/v1/dispatch/pause").0, 200);
    let id = app.accepted(people(1));
    app.until_status(&id, "queued");
    assert_eq!(app.terminate(), Some(0));
    let database = Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
    database.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF;").expect("set");
    let [name, id, whose] =
        ["printf('c%06d', n)".to_owned(), "printf('bat_00%024d', n)".into(), format!("1 + n % {clients}")];
    copy(&database, "clients", clients - 1, &[("client", "NULL"), ("name", &name)]);
    copy(&database, "batches", batches - 1, &[("batch", "NULL"), ("id", &id), ("client", &whose)]);
    let run = "INSERT INTO runs (at, rows, clients, granted) VALUES (1, 1, 1, '[]')";
    assert_eq!(database.execute(run, []).expect("a run"), 1);
    copy(&database, "runs", batches - 1, &[("run", "NULL")]);
    (app, database)
}

/// What each list takes.
fn lists(mut database: Connection) -> Vec<(&'static str, u64)> {
    let filter = all_batches::Filter::default();
    vec![
        ("a client's batches", steps(&mut database, |it| batches::page(it, Some(1), None, PAGE))),
        ("all batches", steps(&mut database, |it| all_batches::page(it, filter, None, PAGE))),
        ("dispatch runs", steps(&mut database, |it| grants::runs(it, i64::MAX, PAGE))),
        ("clients", steps(&mut database, |it| clients::page(it, "", PAGE))),
        ("claims that expired", steps(&mut database, |it| stuck::list(it, EVER, 50))),
        ("whether any did", steps(&mut database, |it| troubles::expired(it, EVER))),
    ]
}

#[test]
fn lists_cost_the_same_with_thousands_of_clients_and_batches() {
    let few = lists(database(60, 60 * 60).1);
    let many = lists(database(3_000, 3_000 * 60).1);
    for ((list, few), (_, many)) in few.into_iter().zip(many) {
        println!("{list}: {few} steps, {many} with many");
        assert!(many <= few + few / 10, "{list}: {many} steps for {few}");
    }
}
