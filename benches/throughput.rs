//! Rows a second through all three calls, in pairs with what wrk reaches on the same server: nginx with one worker and
//! no limits. A row makes three calls, so wrk's requests a second are divided by three. All three share the machine's
//! cores, so the ratio says something only where nothing else runs; the processor time of a row, which is told with
//! each pair, depends less on what else does.
//!
//! Run with `cargo bench --bench throughput`; needs the commands `nginx` and `wrk`. `THROUGHPUT_ROWS` and
//! `THROUGHPUT_PAIRS` change the size.

mod support;

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use support::{POLL, Server, agent, median, setting, until};

const ROWS: u32 = 60_000;
const PAIRS: u32 = 5;
const ADDRESS: &str = "127.0.0.1:18474";
const DOWNSTREAM: &str = "127.0.0.1:18475";
const CALLS_PER_ROW: f64 = 3.0;
/// How often it is asked whether all is done: the question takes time from the same two cores.
const LOOK: Duration = Duration::from_millis(50);

fn main() {
    let (rows, pairs) = (setting("THROUGHPUT_ROWS", ROWS), setting("THROUGHPUT_PAIRS", PAIRS));
    let folder = tempfile::tempdir().expect("a folder");
    let csv = folder.path().join("people.csv");
    fs::write(&csv, people(rows)).expect("written");
    let _nginx = Nginx::start(folder.path());
    let pair = |pair| {
        let ceiling = wrk() / CALLS_PER_ROW;
        let ours = rows_a_second(folder.path(), &csv, rows);
        println!("pair {pair}: {ours:.0} rows/s, wrk's ceiling {ceiling:.0} rows/s, ratio {:.2}", ours / ceiling);
        ours / ceiling
    };
    println!("median ratio: {:.2}", median((1..=pairs).map(pair).collect()));
}

fn people(rows: u32) -> String {
    let mut csv = String::from("email,first_name,last_name,postcode,house_number\n");
    for row in 1..=rows {
        writeln!(csv, "person{row}@mail.example,Ann,Smith,AB1 2CD,{}", row % 240 + 1).expect("a string");
    }
    csv
}

fn rows_a_second(folder: &Path, csv: &Path, rows: u32) -> f64 {
    let dependency = |name| {
        format!(
            "[dependencies.{name}]\nbase_url = \"http://{DOWNSTREAM}\"\nrate_per_second = 1_000_000\nburst = 1_000\n\
             concurrency = 64\n"
        )
    };
    let limits = "[dispatch]\nrows_per_client_per_run = 1_000_000\nmin_interval = \"0s\"\n";
    let server =
        Server::start(folder, ADDRESS, &(limits.to_owned() + &dependency("addresses") + &dependency("invites")));
    let batch = server.upload(csv);
    server.until_status(&batch, "queued", POLL);
    let (begun, cpu_before) = (Instant::now(), server.cpu_seconds());
    server.dispatch();
    let ended = server.until_status(&batch, "completed", LOOK);
    let elapsed = begun.elapsed();
    assert_eq!(ended["counts"]["completed"], rows);
    let cpu_us = (server.cpu_seconds() - cpu_before) / f64::from(rows) * 1e6;
    println!("{cpu_us:.0} us of processor time a row, peak memory {} KiB", server.peak_kib());
    f64::from(rows) / elapsed.as_secs_f64()
}

/// The downstream. Stopped when dropped.
struct Nginx(Child);

impl Nginx {
    fn start(folder: &Path) -> Self {
        let config = folder.join("nginx.conf");
        let at = folder.display();
        let text = format!(
            "worker_processes 1; daemon off; pid {at}/nginx.pid; error_log {at}/error.log; events {{ worker_connections 1024; }}
             http {{ access_log off; keepalive_requests 100000000; default_type application/json;
                     client_body_temp_path {at}/body; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;
                     uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
             server {{ listen {DOWNSTREAM};
               location /address-links {{ return 200 '{{\"link\": \"l-1\"}}'; }}
               location /addresses {{ return 200 '{{\"addresses\": [{{\"id\": \"a-1\"}}]}}'; }}
               location /invites {{ return 201 '{{\"check_id\": \"chk_1\"}}'; }} }} }}"
        );
        fs::write(&config, text).expect("written");
        let child =
            Command::new("nginx").arg("-c").arg(&config).stderr(Stdio::null()).spawn().expect("the nginx command");
        until(POLL, || agent().get(format!("http://{DOWNSTREAM}/addresses")).call().ok().map(drop));
        Self(child)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // A killed master would leave its worker behind.
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Requests a second.
fn wrk() -> f64 {
    let url = format!("http://{DOWNSTREAM}/addresses");
    let output = Command::new("wrk").args(["-t1", "-c32", "-d4s", &url]).output().expect("the wrk command");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = told.lines().find_map(|line| line.strip_prefix("Requests/sec:")).expect("wrk's figure");
    line.trim().parse().expect("a number")
}
