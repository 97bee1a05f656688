//! Reads without end, by everything that reads, while rows are worked.

use std::{
    io::{BufRead, BufReader, Read},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use crate::{
    size,
    support::app::{App, OPERATOR, Setup, agent, people},
};

const LIMIT: u64 = 2 << 20;
/// What the WAL may have at most: its limit, and what is written until a checkpoint gets through.
const MOST: u64 = 2 * LIMIT;
const ROWS: usize = 8_000;
const LISTERS: usize = 12;
const SEARCHES: u64 = 20;

fn list(app: &App, path: &str) {
    for key in [app.key.as_str(), OPERATOR] {
        let (status, answer) = app.get(key, path);
        assert_eq!(status, 200, "{answer}");
    }
}

/// Reads a download so slowly that it lasts about as long as the batch.
fn download(app: &App, id: &str, is_over: &AtomicBool) -> usize {
    let request = agent().get(app.url(&format!("/v2/batches/{id}/results.csv")));
    let mut response = request.header("Authorization", format!("Bearer {}", app.key)).call().expect("an answer");
    let mut lines = BufReader::with_capacity(4_096, response.body_mut().as_reader());
    let (mut line, mut read) = (String::new(), 0);
    while lines.read_line(&mut line).expect("a line") > 0 {
        line.clear();
        read += 1;
        if read % 20 == 0 && !is_over.load(Ordering::Relaxed) {
            thread::park_timeout(Duration::from_millis(5));
        }
    }
    read
}

/// Takes a batch's events until its end.
fn watch(app: &App, id: &str) -> usize {
    let request = agent().get(app.url(&format!("/v2/batches/{id}/events")));
    let mut response = request.header("Authorization", format!("Bearer {}", app.key)).call().expect("an answer");
    let mut text = String::new();
    response.body_mut().as_reader().read_to_string(&mut text).expect("events");
    text.matches("event: batch").count()
}

#[test]
fn the_wal_stays_in_bounds_while_everybody_reads_without_end() {
    let app = App::start(Setup {
        more: "[database]\nwal_limit = \"2MiB\"\n[limits]\nrequests_per_minute = 10000000".into(),
        dispatch: "every = \"1s\"\nmin_interval = \"0s\"\nrows_per_client_per_run = 100000".into(),
        dependency: "rate_per_second = 20000\nburst = 500\nconcurrency = 64\ntimeout = \"5s\"".into(),
        workers: "under_way = 128".into(),
        ..Setup::default()
    });
    let other_key = app.add_client("globex", None);
    let (_, other) = app.upload(&other_key, people(100));
    let id = app.accepted(people(ROWS));
    app.until_status(&id, "queued");
    let (is_over, largest, reads) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let done = thread::scope(|scope| {
        let measured = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                largest.fetch_max(size(&app, "dripfeed.db-wal"), Ordering::Relaxed);
                thread::park_timeout(Duration::from_millis(2));
            }
        });
        for _ in 0..LISTERS {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    list(&app, "/v2/batches?limit=1000");
                    // There are none: each of these looks through thousands of rows, and so there is never a moment
                    // without a reader.
                    for _ in 0..SEARCHES {
                        list(&app, &format!("/v2/batches/{id}/rows?status=cancelled&limit=1000"));
                    }
                    reads.fetch_add(2 + 2 * SEARCHES, Ordering::Relaxed);
                }
            });
        }
        let downloads = [scope.spawn(|| download(&app, &id, &is_over)), scope.spawn(|| download(&app, &id, &is_over))];
        let events = scope.spawn(|| watch(&app, &id));
        let done = app.until_status(&id, "completed");
        is_over.store(true, Ordering::Relaxed);
        for lines in downloads {
            assert_eq!(lines.join().expect("a download"), ROWS + 1);
        }
        assert!(events.join().expect("a stream") > 1);
        measured.join().expect("measured");
        done
    });
    let (largest, reads) = (largest.into_inner(), reads.into_inner());
    println!("the WAL had {largest} bytes at most, under {reads} lists");
    assert_eq!(done["counts"]["completed"], ROWS);
    assert_eq!(app.stats().invites, ROWS as u64 + 100);
    assert!(reads > 100, "{reads} reads are not many");
    assert!(largest > LIMIT / 2, "so little was written ({largest} bytes) that it shows nothing");
    assert!(largest <= MOST, "the WAL had {largest} bytes, and should have {MOST} at most");
    let theirs = app.batch_of(&other_key, other["id"].as_str().expect("an id"));
    assert_eq!(theirs["counts"]["completed"], 100);
}
