//! Bytes that change on the disk: what they belonged to fails and says so, and nothing else does.

use std::path::Path;

use serde_json::Value;

use crate::{
    bucket::World,
    database,
    support::{
        app::{App, OPERATOR, Setup, people},
        proxy::Line,
    },
};

/// A name that would stand out in a log.
const PRIVATE: &str = "Ann,Smith";
const DAMAGED: u32 = 3;

/// Turns one bit of the byte in the middle.
fn damage(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}

fn damage_row(app: &App, number: u32) {
    let database = database(app);
    let mut data: Vec<u8> = database
        .query_row("SELECT data FROM rows WHERE row & 0xFFFFFF = ?", [number], |row| row.get(0))
        .expect("the row's data");
    damage(&mut data);
    let damaged = database.execute("UPDATE rows SET data = ? WHERE row & 0xFFFFFF = ?", (data, number));
    assert_eq!(damaged, Ok(1));
}

#[test]
fn a_damaged_row_fails_alone_and_the_log_says_which() {
    // Nothing is granted before the row is damaged.
    let mut app = App::start(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() });
    let id = app.accepted(people(5));
    app.until_status(&id, "queued");
    app.terminate();
    damage_row(&app, DAMAGED);
    app.serve();
    let (status, run) = app.post(OPERATOR, "/ops/v1/dispatch");
    assert_eq!((status, &run["rows"]), (200, &5.into()), "{run}");

    let done = app.until_status(&id, "completed");
    assert_eq!((&done["counts"]["completed"], &done["counts"]["failed"]), (&4.into(), &1.into()));
    let rows = app.rows(&id);
    for row in &rows {
        let expected = if row["row"] == DAMAGED { "failed" } else { "completed" };
        assert_eq!(row["status"], expected, "{row}");
    }
    let error = &rows[DAMAGED as usize - 1]["error"];
    assert_eq!(error["code"], "undecryptable", "{error}");
    assert!(error["message"].as_str().expect("a sentence").contains("cannot be opened"), "{error}");
    assert_eq!(app.stats().invites, 4);

    let log = app.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let named = lines.filter(|line| line["batch"] == *id && line["row"] == DAMAGED);
    let told: Vec<_> = named.filter(|line| line["level"] == "ERROR").collect();
    assert_eq!(told.len(), 1, "{log}");
    for private in PRIVATE.split(',').chain(["@mail.example"]) {
        assert!(!log.contains(private), "{private} in the log");
    }
}

fn damage_file(path: &Path) {
    let mut bytes = std::fs::read(path).expect("the stored file");
    damage(&mut bytes);
    std::fs::write(path, bytes).expect("damaged");
}

fn cut_file(path: &Path) {
    let length = std::fs::metadata(path).expect("the stored file").len();
    let file = std::fs::File::options().write(true).open(path).expect("the stored file");
    file.set_len(length / 4 * 3).expect("cut");
}

#[test]
fn a_damaged_or_cut_stored_file_fails_its_batch_and_no_row_of_it_is_worked() {
    // More than one transaction's rows, so that some are written before the damage is met.
    const ROWS: usize = 25_000;
    for spoil in [damage_file, cut_file] {
        let world = World::start(Setup::default());
        world.line.set(Line::UpUntil(b"GET "));
        let id = world.app.accepted(people(ROWS));
        world.assert_extraction_waits(&id);
        spoil(&world.stored_file(&id));
        world.line.set(Line::Up);

        let failed = world.app.until_status(&id, "failed");
        assert_eq!((&failed["error"]["code"], &failed["counts"]["cancelled"]), (&"damaged_file".into(), &ROWS.into()));
        let message = failed["error"]["message"].as_str().expect("a sentence");
        assert!(message.contains("damaged") && message.contains("upload it again"), "{message}");
        let rows = world.app.rows(&id);
        assert!(!rows.is_empty(), "some rows came before the damage");
        assert!(rows.iter().all(|row| row["status"] == "cancelled"), "none of them is left as if it could be worked");
        let healthy = world.app.accepted(people(3));
        world.app.until_status(&healthy, "completed");
        assert_eq!(world.app.stats().invites, 3, "no row of the damaged file was worked");
    }
}
