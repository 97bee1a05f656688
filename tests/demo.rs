//! `dripfeed demo` and `dripfeed simulator`, as somebody meets them who has just built the binary.

mod support;

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use dripfeed::simulator::{Simulator, SimulatorOptions};
use serde_json::{Value, json};
use support::app::agent;

#[test]
fn the_demo_runs_the_whole_job_with_nothing_set_up() {
    let empty = tempfile::tempdir().expect("a folder");
    let demo = Command::new(env!("CARGO_BIN_EXE_dripfeed"))
        .args(["demo", "--rows", "300", "--exit"])
        .current_dir(empty.path())
        .output()
        .expect("the binary");
    let said = String::from_utf8_lossy(&demo.stdout);
    assert!(demo.status.success(), "{said}{}", String::from_utf8_lossy(&demo.stderr));
    let number = |name: &str| {
        let line =
            said.lines().find(|line| line.trim().starts_with(name)).unwrap_or_else(|| panic!("{name} in {said}"));
        let rest = line.trim().trim_start_matches(name).trim();
        rest.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    // Of 300 rows three have no address (97, 194, 291) and one is refused (251).
    assert_eq!((number("completed"), number("failed")), (296, 4));
    assert_eq!((number("invites created"), number("created twice"), number("refused as too fast")), (296, 0, 0));
    assert!(number("busiest second") <= 75 + 10, "{said}");
    assert!(said.contains("curl -s") && said.contains("The page"), "{said}");
    assert_eq!(std::fs::read_dir(empty.path()).expect("the folder").count(), 0, "it leaves nothing behind");
}

fn post(simulator: &Simulator, path: &str, key: Option<&str>, body: &Value) -> (u16, Value) {
    let mut request = agent().post(format!("http://{}{path}", simulator.address()));
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    let mut answer = request.send(body.to_string()).expect("an answer");
    let text = answer.body_mut().read_to_string().expect("a body");
    (answer.status().as_u16(), serde_json::from_str(&text).expect("JSON"))
}

#[test]
fn the_simulator_counts_invites_by_key_and_by_body() {
    let simulator = Simulator::start(SimulatorOptions::default()).expect("a simulator");
    let invite = json!({ "email": "a@mail.example", "address_id": "adr_1" });
    let first = post(&simulator, "/invites", Some("k1"), &invite);
    assert_eq!(first.0, 201);
    assert_eq!(post(&simulator, "/invites", Some("k1"), &invite), first, "the same key gets the same answer");
    assert_eq!(simulator.stats().duplicate_invites, 0);
    post(&simulator, "/invites", Some("k2"), &invite);
    post(&simulator, "/invites", None, &invite);
    let stats = simulator.stats();
    assert_eq!((stats.invites, stats.replayed, stats.duplicate_invites), (3, 1, 2));
    let other = json!({ "email": "b@mail.example", "address_id": "adr_1" });
    assert_eq!(post(&simulator, "/invites", Some("k1"), &other).0, 422, "a key stands for one body");
    assert_eq!(post(&simulator, "/invites", None, &json!({})).0, 422);
}

#[test]
fn the_simulator_command_keeps_its_rate_and_tells_its_stats() {
    let mut simulator = Command::new(env!("CARGO_BIN_EXE_dripfeed"))
        .args(["simulator", "--listen", "127.0.0.1:0", "--rate", "5"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary");
    let mut said = String::new();
    BufReader::new(simulator.stdout.take().expect("piped")).read_line(&mut said).expect("a line");
    let url = said.trim().rsplit(' ').next().expect("an address").to_owned();
    let mut refused = 0;
    for _ in 0..20 {
        let answer = agent().get(format!("{url}/addresses?link=x")).call().expect("an answer");
        if answer.status() == 429 {
            let wait = answer.headers()["retry-after"].to_str().expect("text").parse::<u64>().expect("seconds");
            assert!((1..=2).contains(&wait));
            refused += 1;
        }
    }
    let mut stats = agent().get(format!("{url}/stats")).call().expect("an answer");
    let stats: Value = serde_json::from_str(&stats.body_mut().read_to_string().expect("a body")).expect("JSON");
    simulator.kill().expect("killed");
    simulator.wait().expect("reaped");
    assert!(refused > 0);
    assert_eq!((&stats["refused"], &stats["calls"]["get-addresses"]), (&json!(refused), &json!(20 - refused)));
    for key in ["busiest_second", "invites", "replayed", "duplicate_invites"] {
        assert!(stats[key].is_u64(), "{key} in {stats}");
    }
}
