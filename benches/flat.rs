//! What each call costs on batches of a million rows in a database of ten million, against the same calls on batches of
//! three thousand: the ratio is to stay near 1, whatever a batch holds.
//!
//! Two real servers are filled through their own API: ten batches each, of which a thousand rows were worked (a third of
//! them rejected). Then every call is made many times, or once a batch where it can only be made once. Run with
//! `cargo bench --bench flat`; `FLAT_ROWS`, `FLAT_BATCHES` and `FLAT_REPEATS` change the size.

mod support;

use std::{
    fs::File,
    io::{BufWriter, Read, Write},
    path::Path,
    time::Instant,
};

use dripfeed::simulator::{Simulator, SimulatorOptions};
use support::{OPERATOR, POLL, Server, agent, median, setting};

const SMALL_ROWS: u32 = 3_000;
const LARGE_ROWS: u32 = 1_000_000;
const BATCHES: u32 = 10;
const REPEATS: u32 = 100;
/// Rows of each batch that are worked before anything is measured.
const WORKED: u64 = 1_000;
const FIRST_BYTES: u64 = 64 * 1024;

fn main() {
    let (rows, batches) = (setting("FLAT_ROWS", LARGE_ROWS), setting("FLAT_BATCHES", BATCHES));
    let repeats = setting("FLAT_REPEATS", REPEATS);
    let folder = tempfile::tempdir().expect("a folder");
    let small = measured(&folder.path().join("small"), "127.0.0.1:18476", SMALL_ROWS, batches, repeats);
    let large = measured(&folder.path().join("large"), "127.0.0.1:18477", rows, batches, repeats);
    println!("{:<44} {:>10} {:>10} {:>7}", "call", "small ms", "large ms", "ratio");
    for ((call, small), (_, large)) in small.iter().zip(&large) {
        println!("{call:<44} {small:>10.2} {large:>10.2} {:>7.2}", large / small);
    }
}

/// A server with so many batches of so many rows; the median of each call in milliseconds.
fn measured(folder: &Path, address: &'static str, rows: u32, batches: u32, repeats: u32) -> Vec<(String, f64)> {
    std::fs::create_dir_all(folder).expect("a folder");
    let simulator = Simulator::start(SimulatorOptions::default()).expect("a simulator");
    let dependency = |name| {
        format!(
            "[dependencies.{name}]\nbase_url = \"http://{}\"\nrate_per_second = 100_000\nburst = 100\nconcurrency = 32\n",
            simulator.address()
        )
    };
    let more = format!(
        "[dispatch]\nrows_per_client_per_run = {WORKED}\nmin_interval = \"0s\"\n[limits]\nrequests_per_minute = 1_000_000\n\
         {}{}",
        dependency("addresses"),
        dependency("invites")
    );
    let server = Server::start(folder, address, &more);
    let csv = folder.join("people.csv");
    let mut made = Vec::new();
    for number in 0..batches {
        write_people(&csv, rows, number);
        let batch = server.upload(&csv);
        server.until_status(&batch, "queued", POLL);
        server.dispatch();
        server.until(&batch, POLL, |batch| {
            batch["counts"]["completed"]
                .as_u64()
                .zip(batch["counts"]["failed"].as_u64())
                .is_some_and(|(completed, failed)| completed + failed >= WORKED)
        });
        assert_eq!(call(&server.key, "POST", &format!("{batch}/pause")).0, 200);
        made.push(batch);
    }
    println!("{batches} batches of {rows} rows are ready");
    measure(&server, address, &made, rows, repeats)
}

fn measure(server: &Server, address: &str, batches: &[String], rows: u32, repeats: u32) -> Vec<(String, f64)> {
    let mut figures = Vec::new();
    let mut note = |what: &str, times: Vec<f64>| figures.push((what.to_owned(), median(times)));
    let newest = batches.last().expect("a batch");
    let far = rows - rows / 10;
    let reads = [
        ("GET batch", newest.clone()),
        ("GET rows, the first page", format!("{newest}/rows")),
        ("GET rows, a page far behind", format!("{newest}/rows?after={far}")),
        ("GET rows?status=failed", format!("{newest}/rows?status=failed")),
        ("GET rows?code=rejected", format!("{newest}/rows?code=rejected")),
        ("GET rows?status=failed, behind the last", format!("{newest}/rows?status=failed&after={WORKED}")),
        ("GET rows/1", format!("{newest}/rows/1")),
        ("GET the last row", format!("{newest}/rows/{rows}")),
        ("GET errors", format!("{newest}/errors")),
        ("GET results.csv?status=failed, whole", format!("{newest}/results.csv?status=failed")),
        ("GET results.csv, the first 64 KiB", format!("{newest}/results.csv")),
        ("GET batches", format!("http://{address}/v2/batches")),
    ];
    for (what, url) in &reads {
        note(what, (0..repeats).map(|_| timed(&server.key, "GET", url)).collect());
    }
    for (what, path) in [("GET overview", "overview"), ("GET stuck", "stuck"), ("GET clients", "clients")] {
        let url = format!("http://{address}/ops/v1/{path}");
        note(what, (0..repeats).map(|_| timed(OPERATOR, "GET", &url)).collect());
    }
    let url = format!("http://{address}/metrics");
    note("GET metrics", (0..repeats).map(|_| timed(OPERATOR, "GET", &url)).collect());
    for (what, verb) in
        [("POST resume", "resume"), ("POST pause", "pause"), ("POST retry", "retry"), ("POST cancel", "cancel")]
    {
        note(what, batches.iter().map(|batch| timed(&server.key, "POST", &format!("{batch}/{verb}"))).collect());
    }
    let dispatch = format!("http://{address}/ops/v1/dispatch");
    note("POST dispatch", (0..repeats).map(|_| timed(OPERATOR, "POST", &dispatch)).collect());
    note("DELETE batch", batches.iter().map(|batch| timed(&server.key, "DELETE", batch)).collect());
    figures
}

/// Milliseconds until the answer is there, or the first bytes of a long one.
fn timed(key: &str, method: &str, url: &str) -> f64 {
    let begun = Instant::now();
    let (status, _) = call(key, method, url);
    assert_eq!(status, 200, "{method} {url}");
    begun.elapsed().as_secs_f64() * 1_000.0
}

fn call(key: &str, method: &str, url: &str) -> (u16, Vec<u8>) {
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(url)
        .header("Authorization", format!("Bearer {key}"))
        .body(())
        .expect("a request");
    let mut response = agent().run(request).expect("an answer");
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    response.body_mut().as_reader().take(FIRST_BYTES).read_to_end(&mut bytes).expect("a body");
    (status, bytes)
}

/// Every third of the rows that are worked is one that the simulator rejects.
fn write_people(path: &Path, rows: u32, batch: u32) {
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    writeln!(file, "email,first_name,last_name,phone,postcode,house_number").expect("written");
    for row in 1..=rows {
        let domain = if row % 3 == 0 { "rejected.example" } else { "mail.example" };
        writeln!(file, "p{row}.{batch}@{domain},Ann,Smith,07700 900123,AB1 2CD,{}", row % 240 + 1).expect("written");
    }
}
