//! Which share of its rate an API is called at that takes long to answer: as many requests have to be under way as the rate
//! times the latency (Little's law), and how many that is has to be found out. Told besides: how many were under way, and
//! the server's peak memory.
//!
//! Run with `cargo bench --bench slow`; `SLOW_SECONDS` changes how long each case is measured.

mod support;

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use dripfeed::simulator::{Simulator, SimulatorOptions};
use support::{POLL, Server, setting};

const SECONDS: u32 = 20;
const ADDRESS: &str = "127.0.0.1:18478";

/// An API, and how it is called.
struct Case {
    per_second: u32,
    latency: Duration,
    /// Settings of the dependency, and of `[workers]`, besides the rate.
    dependency: &'static str,
    workers: &'static str,
}

const CASES: [Case; 3] = [
    Case { per_second: 200, latency: Duration::from_millis(300), dependency: "", workers: "" },
    Case { per_second: 200, latency: Duration::from_secs(1), dependency: "", workers: "" },
    Case {
        per_second: 500,
        latency: Duration::from_secs(10),
        dependency: "max_concurrency = 8_000\ntimeout = \"30s\"\n",
        workers: "[workers]\nunder_way = 8_000\n",
    },
];

fn main() {
    let seconds = setting("SLOW_SECONDS", SECONDS);
    let folder = tempfile::tempdir().expect("a folder");
    for case in &CASES {
        measure(folder.path(), case, seconds);
    }
}

fn measure(folder: &Path, case: &Case, seconds: u32) {
    let Case { per_second, latency, dependency, workers } = case;
    let simulator = Simulator::start(SimulatorOptions { latency: *latency, ..SimulatorOptions::default() });
    let simulator = simulator.expect("a simulator");
    let url = format!("http://{}", simulator.address());
    let server = Server::start(
        folder,
        ADDRESS,
        &format!(
            "[dispatch]\nrows_per_client_per_run = 1_000_000\nmin_interval = \"0s\"\n{workers}\
             [dependencies.addresses]\nbase_url = \"{url}\"\nrate_per_second = 1\n\
             [dependencies.invites]\nbase_url = \"{url}\"\nrate_per_second = {per_second}\n{dependency}\
             [[workflows.invite.steps]]\nname = \"invite-create\"\ndependency = \"invites\"\nmethod = \"POST\"\n\
             path = \"/invites\"\njson = {{ email = \"{{{{ row.email }}}}\", address_id = \"a-1\" }}\n\
             save = {{ check_id = \"/check_id\" }}\nresult = \"check_id\"\n"
        ),
    );
    // Until as many are under way as it takes, and it is found out how many that is.
    let begins = *latency * 3 + Duration::from_secs(10);
    let ends = begins + Duration::from_secs(seconds.into());
    let csv = folder.join("people.csv");
    fs::write(&csv, people(per_second * (ends.as_secs() as u32 + 5))).expect("written");
    let batch = server.upload(&csv);
    server.until_status(&batch, "queued", POLL);
    server.dispatch();
    let (begun, calls) = (Instant::now(), || simulator.stats().calls.total());
    std::thread::sleep(begins);
    let (from, before) = (begun.elapsed(), calls());
    std::thread::sleep(ends - begins);
    let (until, after) = (begun.elapsed(), calls());
    let rate = (after - before) as f64 / (until - from).as_secs_f64();
    let share = 100.0 * rate / f64::from(*per_second);
    println!(
        "{per_second}/s at {latency:?}: {rate:.1}/s, {share:.1} % of the rate; about {:.0} under way, peak memory {} KiB",
        rate * latency.as_secs_f64(),
        server.peak_kib()
    );
}

fn people(rows: u32) -> String {
    let mut csv = String::from("email,first_name,last_name,postcode,house_number\n");
    for row in 1..=rows {
        writeln!(csv, "person{row}@mail.example,Ann,Smith,AB1 2CD,{}", row % 240 + 1).expect("a string");
    }
    csv
}
