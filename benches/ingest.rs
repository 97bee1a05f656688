//! A million rows from the first byte of the upload to `queued`, in pairs with `sqlite3 .import` of the same file.
//!
//! Times on a shared machine vary; the ratio of a pair does much less. Run with `cargo bench --bench ingest`; needs the
//! `sqlite3` command. `INGEST_ROWS` and `INGEST_PAIRS` change the size.

mod support;

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use support::{POLL, Server, median, setting};

const ROWS: u32 = 1_000_000;
const PAIRS: u32 = 5;
const ADDRESS: &str = "127.0.0.1:18473";
const NOBODY: &str = "[dependencies.addresses]\nbase_url = \"http://127.0.0.1:1\"\nrate_per_second = 1\n\
                      [dependencies.invites]\nbase_url = \"http://127.0.0.1:1\"\nrate_per_second = 1\n";

fn main() {
    let (rows, pairs) = (setting("INGEST_ROWS", ROWS), setting("INGEST_PAIRS", PAIRS));
    let folder = tempfile::tempdir().expect("a folder");
    let csv = folder.path().join("people.csv");
    write_people(&csv, rows);
    println!("{rows} rows, {} bytes", fs::metadata(&csv).expect("the file").len());
    let pair = |pair| {
        let ours = ingest(folder.path(), &csv);
        let import = sqlite_import(folder.path(), &csv);
        let ratio = ours.queued.as_secs_f64() / import.as_secs_f64();
        println!(
            "pair {pair}: answered {:.2} s, queued {:.2} s, .import {:.2} s, ratio {ratio:.2}, peak {} KiB",
            ours.answered.as_secs_f64(),
            ours.queued.as_secs_f64(),
            import.as_secs_f64(),
            ours.peak_kib
        );
        ratio
    };
    println!("median ratio: {:.2}", median((1..=pairs).map(pair).collect()));
}

fn write_people(path: &Path, rows: u32) {
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    writeln!(file, "email,first_name,last_name,phone,postcode,house_number").expect("written");
    for row in 1..=rows {
        writeln!(
            file,
            "person{row}@mail.example,Firstname{},Lastname{},07700 {:06},AB{} 2CD,{}",
            row % 977,
            row % 1_013,
            row % 1_000_000,
            row % 20 + 1,
            row % 240 + 1
        )
        .expect("written");
    }
}

struct Ingest {
    answered: Duration,
    queued: Duration,
    peak_kib: u64,
}

fn ingest(folder: &Path, csv: &Path) -> Ingest {
    let server = Server::start(folder, ADDRESS, NOBODY);
    let begun = Instant::now();
    let batch = server.upload(csv);
    let answered = begun.elapsed();
    server.until_status(&batch, "queued", POLL);
    Ingest { answered, queued: begun.elapsed(), peak_kib: server.peak_kib() }
}

fn sqlite_import(folder: &Path, csv: &Path) -> Duration {
    let database = folder.join("import.db");
    let begun = Instant::now();
    let status = Command::new("sqlite3")
        .arg(&database)
        .args(["PRAGMA journal_mode=WAL", ".mode csv"])
        .arg(format!(".import {} people", csv.display()))
        .stdout(Stdio::null())
        .status()
        .expect("the sqlite3 command");
    let elapsed = begun.elapsed();
    assert!(status.success());
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(folder.join(format!("import.db{suffix}")));
    }
    elapsed
}
