//! `dripfeed simulator --script FILE`: a vendor that behaves as badly as it is told to.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};

use super::{
    said,
    support::app::{App, Setup, agent, people},
};

/// A simulator as a process of its own. Dropped, it is killed.
pub struct Vendor {
    child: Child,
    pub address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Vendor {
    pub fn playing(script: &str) -> Self {
        let (folder, mut command) = command(script);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("simulating on http://").expect("its address");
        Self { child, address: address.parse().expect("an address"), _folder: folder }
    }

    fn stats(&self) -> Value {
        let mut response = agent().get(format!("http://{}/stats", self.address)).call().expect("an answer");
        serde_json::from_reader(response.body_mut().as_reader()).expect("JSON")
    }

    /// One call on a connection of its own: all that comes until it is closed, or until nothing comes any more.
    fn raw(&self, target: &str, key: &str, body: &Value) -> String {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        self.ask(&mut stream, target, key, body);
        let mut answer = Vec::new();
        stream.set_read_timeout(Some(Duration::from_millis(700))).expect("set");
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).expect("text")
    }

    fn ask(&self, stream: &mut TcpStream, target: &str, key: &str, body: &Value) {
        let body = body.to_string();
        let head = format!("{target} HTTP/1.1\r\nHost: v\r\nIdempotency-Key: {key}\r\nContent-Length: {}", body.len());
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).expect("sent");
    }

    fn invite(&self, who: &str) -> String {
        self.raw("POST /invites", who, &invitation(who))
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn invitation(who: &str) -> Value {
    json!({ "email": format!("{who}@mail.example"), "address_id": "adr_1" })
}

fn command(script: &str) -> (tempfile::TempDir, Command) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("vendor.toml");
    std::fs::write(&file, script).expect("a script");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dripfeed"));
    command.args(["simulator", "--listen", "127.0.0.1:0", "--script"]).arg(file);
    (folder, command)
}

fn refused(script: &str) -> Output {
    let (_folder, mut command) = command(script);
    command.output().expect("the binary")
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let line = answer.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("{name} in {answer}"))
}

#[test]
fn rules_answer_by_row_try_and_call_and_the_rest_is_answered_as_ever() {
    let vendor = Vendor::playing(
        r#"
        [[answers]]                     # the second row, first try: created, and an error
        path = "/invites"
        row = 2
        try = 1
        status = 500
        done = true
        [[answers]]                     # somebody who is turned away, with a lie
        contains = "carl@"
        status = 429
        headers = { retry-after = "now-30s" }
        json = { error = { message = "slow down", retry = 1.50 } }
        [[answers]]                     # a path that the simulator does not have
        path = "/contacts"
        call = "2-"
        status = 201
        text = "<id>7</id>"
        headers = { content-type = "text/xml", set-cookie = ["a=1", "b=2"] }
        "#,
    );
    let begins = |answer: &str, status: &str| assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    begins(&vendor.invite("ann"), "201");
    let failed = vendor.invite("bob");
    begins(&failed, "500");
    // Created all the same: asked again under its key, it is there.
    let again = vendor.invite("bob");
    begins(&again, "201");
    assert!(again.ends_with(failed.rsplit("\r\n").next().expect("a body")), "{again} as {failed}");
    let turned_away = vendor.invite("carl");
    begins(&turned_away, "429");
    assert!(turned_away.ends_with(r#"{"error":{"message":"slow down","retry":1.50}}"#), "{turned_away}");
    let date = httpdate::parse_http_date(header(&turned_away, "retry-after")).expect("a date");
    assert!(date < SystemTime::now() - Duration::from_secs(25), "{turned_away}");
    begins(&vendor.raw("GET /contacts", "k", &json!({})), "404");
    let unheard_of = vendor.raw("GET /contacts", "k", &json!({}));
    begins(&unheard_of, "201");
    assert!(unheard_of.ends_with("\r\n\r\n<id>7</id>") && header(&unheard_of, "content-type") == "text/xml");
    assert!(unheard_of.contains("set-cookie: a=1\r\n") && unheard_of.contains("set-cookie: b=2\r\n"), "{unheard_of}");
    let stats = vendor.stats();
    assert_eq!(stats["calls"]["invite-create"], 4, "calls that rules answer are counted: {stats}");
    assert_eq!((&stats["invites"], &stats["replayed"]), (&json!(2), &json!(1)), "carl was not created: {stats}");
}

#[test]
fn answers_come_late_after_creating_are_cut_off_or_do_not_come() {
    let vendor = Vendor::playing(
        r#"
        [[answers]]
        contains = "late@"
        latency = "400ms"
        [[answers]]
        contains = "silent@"
        fault = "timeout"
        [[answers]]
        contains = "closed@"
        fault = "connection"
        done = false
        [[answers]]
        contains = "half@"
        fault = "cut-off"
        [[answers]]
        contains = "later-gone@"
        closes_after = "200ms"
        "#,
    );
    let invites = || vendor.stats()["invites"].as_u64().expect("a count");
    let begun = Instant::now();
    let mut stream = TcpStream::connect(vendor.address).expect("a connection");
    vendor.ask(&mut stream, "POST /invites", "late", &invitation("late"));
    let created = std::iter::from_fn(|| Some(invites())).find(|invites| *invites == 1);
    assert!(created.is_some() && begun.elapsed() < Duration::from_millis(390), "created long before it is answered");
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status).expect("an answer");
    assert!(status.starts_with("HTTP/1.1 201") && begun.elapsed() >= Duration::from_millis(390), "{status}");

    assert_eq!((vendor.invite("silent"), invites()), (String::new(), 2));
    assert_eq!((vendor.invite("closed"), invites()), (String::new(), 2));
    let half = vendor.invite("half");
    let (head, body) = half.split_once("\r\n\r\n").expect("a head");
    let announced: usize = header(head, "content-length").parse().expect("a number");
    assert!(head.starts_with("HTTP/1.1 201") && body.len() == announced / 2 && !body.is_empty(), "{half}");
    assert_eq!(invites(), 3);

    // The connection is closed behind the answer, which says nothing of it.
    let mut stream = TcpStream::connect(vendor.address).expect("a connection");
    vendor.ask(&mut stream, "POST /invites", "later-gone", &invitation("later-gone"));
    let begun = Instant::now();
    let mut answer = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    stream.read_to_string(&mut answer).expect("the end, and not the timeout");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(190) && took < Duration::from_secs(4), "{took:?}");
    assert!(answer.starts_with("HTTP/1.1 201") && !answer.to_lowercase().contains("connection: close"), "{answer}");
}

#[test]
fn a_batch_gets_through_a_vendor_that_creates_in_silence_lies_and_hangs_up() {
    let vendor = Vendor::playing(
        r#"
        [[answers]]                     # created, and nobody hears of it
        path = "/invites"
        row = "every 3"
        try = 1
        fault = "timeout"
        [[answers]]
        path = "/addresses"
        row = "every 4"
        try = 1
        fault = "cut-off"
        [[answers]]
        path = "/address-links"
        call = "5-6"
        status = 429
        headers = { Retry-After = 0 }
        "#,
    );
    let dependency = "rate_per_second = 200\nburst = 20\ntimeout = \"500ms\"\ngate_after = 1000".into();
    let app = App::start(Setup { downstream: Some(vendor.address), dependency, ..Setup::default() });
    let id = app.accepted(people(12));
    let batch = app.until_status(&id, "completed");
    assert_eq!(batch["counts"]["completed"], 12, "{batch}");
    let stats = vendor.stats();
    assert_eq!((&stats["invites"], &stats["replayed"]), (&json!(12), &json!(4)), "{stats}");
    assert_eq!(stats["duplicate_invites"], 0, "{stats}");
    // Each row, and what was turned away or cut off once more.
    assert_eq!(stats["calls"]["address-links"].as_u64(), Some(14), "{stats}");
    assert_eq!(stats["calls"]["get-addresses"].as_u64(), Some(15), "{stats}");
}

#[test]
fn a_script_that_cannot_be_played_is_refused_with_each_fault_its_line_and_what_to_write() {
    let output = refused("[[answers]]\npath = \"/invites\"\nstatus = 42\n\n[[answers]]\nfault = \"boom\"\n");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    for says in [
        "`dripfeed simulator --help` shows what one looks like",
        "vendor.toml:3: `status` is a number from 200 to 599",
        "vendor.toml:6: `fault` is \"timeout\" (no answer), \"connection\" (closed without one) or \"cut-off\"",
    ] {
        assert!(said(&output).contains(says), "{says} in {}", said(&output));
    }
    let broken = refused("[[answers]]\nstatus = \n");
    assert!(broken.status.code() == Some(2) && said(&broken).contains("vendor.toml:2: this is not TOML"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_dripfeed"));
    let missing = command.args(["simulator", "--script", "/nowhere/vendor.toml"]).output().expect("the binary");
    assert_eq!(missing.status.code(), Some(2));
    assert!(said(&missing).contains("the script /nowhere/vendor.toml cannot be read"), "{}", said(&missing));
}

#[test]
fn the_example_in_the_help_is_a_script_that_can_be_played() {
    let help = Command::new(env!("CARGO_BIN_EXE_dripfeed")).args(["simulator", "--help"]).output().expect("the binary");
    let help = String::from_utf8(help.stdout).expect("text");
    let from = help.find("  [[answers]]").expect("an example");
    let to = from + help[from..].find("\n\n").expect("its end");
    let vendor = Vendor::playing(&help[from..to]);
    assert_eq!(vendor.stats()["invites"], 0);
    for call in 1..=31 {
        let status = agent().get(format!("http://{}/addresses?link=lnk_some_1", vendor.address)).call();
        let expected = if (21..=30).contains(&call) { 429 } else { 200 };
        assert_eq!(status.expect("an answer").status().as_u16(), expected, "call {call}");
    }
}
