//! A million rows from the first byte of the upload to `queued`, in pairs with `sqlite3 .import` of the same file.
//!
//! Times on a shared machine vary; the ratio of a pair does much less. Run with `cargo bench --bench ingest`; needs the
//! `sqlite3` command. `INGEST_ROWS` and `INGEST_PAIRS` change the size.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

const ROWS: u32 = 1_000_000;
const PAIRS: u32 = 5;
const ADDRESS: &str = "127.0.0.1:18473";
const POLL: Duration = Duration::from_millis(5);
const DEADLINE: Duration = Duration::from_secs(300);

fn main() {
    let setting = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (rows, pairs) = (setting("INGEST_ROWS", ROWS), setting("INGEST_PAIRS", PAIRS));
    let folder = tempfile::tempdir().expect("a folder");
    let csv = folder.path().join("people.csv");
    write_people(&csv, rows);
    println!("{rows} rows, {} bytes", fs::metadata(&csv).expect("the file").len());
    let mut ratios = Vec::new();
    for pair in 1..=pairs {
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
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "ratio: min {:.2}, median {:.2}, max {:.2}",
        ratios[0],
        ratios[ratios.len() / 2],
        ratios[ratios.len() - 1]
    );
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
    let home = folder.join("server");
    fs::create_dir_all(&home).expect("a folder");
    let (config, keys, data) = (home.join("dripfeed.toml"), home.join("keys"), home.join("data"));
    fs::write(&keys, "bench:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").expect("written");
    let text = format!(
        "[server]\nlisten = \"{ADDRESS}\"\n[storage]\ndata_dir = \"{}\"\n[encryption]\nkey_file = \"{}\"\n\
         [log]\nfilter = \"warn\"\n\
         [dependencies.addresses]\nbase_url = \"http://127.0.0.1:1\"\nrate_per_second = 1\n\
         [dependencies.invites]\nbase_url = \"http://127.0.0.1:1\"\nrate_per_second = 1\n",
        data.display(),
        keys.display()
    );
    fs::write(&config, text).expect("written");
    let binary = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dripfeed"));
        command.arg("--config").arg(&config).args(arguments);
        command
    };
    let added = binary(&["client", "add", "bench", "--json"]).output().expect("the binary");
    let key = serde_json::from_slice::<Value>(&added.stdout).expect("JSON")["key"].as_str().expect("a key").to_owned();
    let mut server = binary(&["serve"]).stdout(Stdio::null()).spawn().expect("the binary");
    until(|| agent().get(format!("http://{ADDRESS}/livez")).call().ok().map(drop));

    let begun = Instant::now();
    let sent = agent()
        .post(format!("http://{ADDRESS}/v2/client/users/batch/invite"))
        .header("Authorization", format!("Bearer {key}"))
        .header("Content-Type", "text/csv")
        .send(File::open(csv).expect("the file"));
    let batch: Value = read(sent.expect("an answer"));
    let answered = begun.elapsed();
    let url = format!("http://{ADDRESS}/v2/batches/{}", batch["id"].as_str().expect("an id"));
    until(|| {
        let answer = agent().get(&url).header("Authorization", format!("Bearer {key}")).call().expect("an answer");
        (read(answer)["status"] == "queued").then_some(())
    });
    let queued = begun.elapsed();
    let peak_kib = peak_of(&server);
    server.kill().expect("killed");
    server.wait().expect("reaped");
    fs::remove_dir_all(&home).expect("removed");
    Ingest { answered, queued, peak_kib }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(DEADLINE)).build().into()
}

fn read(mut answer: ureq::http::Response<ureq::Body>) -> Value {
    serde_json::from_str(&answer.body_mut().read_to_string().expect("a body")).expect("JSON")
}

/// The server's peak resident memory, as Linux tells it.
fn peak_of(server: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("its peak");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
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

fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never came to this");
        std::thread::sleep(POLL);
    }
}
