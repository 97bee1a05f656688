//! The server under test: sends one request by hand, and holds its answer and what is kept to the interface.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use dripfeed::intake::FindingCode;
use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestCaseError, TestRunner},
};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::support::app::{App, Setup, files};

/// Stands in everything private that is sent. Only a column's name may come back, and that is told as such.
pub const PRIVATE: &str = "zqPRIVATEqz";
const PATH: &str = "/v2/client/users/batch/invite?allow_duplicate=true";
/// An answer that takes longer is a hang.
const LONGEST_ANSWER: Duration = Duration::from_secs(30);
/// What the interface says an upload is answered with when it is not taken.
const REFUSALS: [(u16, &str); 5] = [
    (400, "bad_request"),
    (408, "request_timeout"),
    (413, "too_large"),
    (415, "unsupported_media_type"),
    (422, "invalid_file"),
];

/// A CSV with private cells that is accepted.
pub fn csv() -> String {
    let cells = format!("{PRIVATE}@mail.example,{PRIVATE},{PRIVATE},07700 900123,AB1 2CD,{PRIVATE}\n");
    format!("email,first_name,last_name,phone,postcode,house_number\n{cells}{}", cells.replacen(PRIVATE, "b", 1))
}

/// An upload: header lines besides the usual ones, as bytes, and the body.
#[derive(Clone)]
pub struct Request {
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// The connection closes after so much of the body, which was announced whole.
    pub sent: usize,
}

impl Request {
    pub fn new(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { headers: vec![("Content-Type".into(), content_type.into())], sent: body.len(), body }
    }

    pub fn with(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// As a person can read it when a property fails.
impl Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {}", value.escape_ascii())?;
        }
        write!(f, "\n{}\n({} of {} bytes)", self.body.escape_ascii(), self.sent, self.body.len())
    }
}

pub struct Answer {
    pub status: u16,
    pub body: Value,
}

/// A server that extracts what it takes, and dispatches nothing.
pub struct Server {
    app: App,
    /// How often it answered with which status.
    statuses: RefCell<BTreeMap<u16, usize>>,
}

impl Server {
    pub fn start() -> Self {
        let app = App::start(Setup { dispatch: String::new(), ..Setup::default() });
        Self { app, statuses: RefCell::default() }
    }

    /// Sends so many generated requests, and holds each to the interface; then asks whether the server came through.
    /// Each of `statuses` has to be among the answers, or the requests do not try what they should.
    pub fn hold(&self, cases: u32, requests: impl Strategy<Value = Request>, statuses: &[u16]) {
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(cases) });
        let checked = runner.run(&requests, |request| self.check(&request).map(drop).map_err(TestCaseError::fail));
        checked.unwrap_or_else(|failure| panic!("{failure}\n{}", self.app.log()));
        let seen = self.statuses.borrow().clone();
        assert!(statuses.iter().all(|status| seen.contains_key(status)), "{seen:?} lacks some of {statuses:?}");
        self.is_well();
    }

    /// What came of a request, if that is what the interface promises.
    pub fn check(&self, request: &Request) -> Result<Option<Answer>, String> {
        let answer = self.send(request)?;
        match &answer {
            Some(answer) => {
                refused_or_taken(answer)?;
                *self.statuses.borrow_mut().entry(answer.status).or_default() += 1;
            }
            None if request.sent < request.body.len() => {}
            None => return Err("no answer".to_owned()),
        }
        self.nothing_else_is_kept();
        if self.app.log().contains(PRIVATE) {
            return Err("something private is in the log".to_owned());
        }
        Ok(answer)
    }

    fn taken(&self) -> usize {
        self.statuses.borrow().get(&202).copied().unwrap_or_default()
    }

    /// The server's work after all that: every batch that it took is read back whole, and nothing failed inside.
    pub fn is_well(&self) {
        let (status, list) = self.app.get(&self.app.key, "/v2/batches?limit=1000");
        assert_eq!(status, 200, "{list}");
        let batches = list["batches"].as_array().expect("a list");
        assert_eq!(batches.len(), self.taken());
        for batch in batches {
            let id = batch["id"].as_str().expect("an id");
            let batch = self.app.until_status(id, "queued");
            assert_eq!(self.app.rows(id).len() as u64, batch["counts"]["total"], "{batch}");
        }
        let log = self.app.log();
        assert!(!log.contains("\"ERROR\"") && !log.contains("panicked"), "{log}");
    }

    /// Writes the request as it is, and reads the answer; none where the connection ended without one.
    fn send(&self, request: &Request) -> Result<Option<Answer>, String> {
        let url = self.app.url(PATH);
        let (address, path) = url.trim_start_matches("http://").split_once('/').expect("a path");
        let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(LONGEST_ANSWER)).expect("a timeout");
        let mut head = format!("POST /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n").into_bytes();
        head.extend(format!("Authorization: Bearer {}\r\n", self.app.key).bytes());
        head.extend(format!("Content-Length: {}\r\n", request.body.len()).bytes());
        for (name, value) in &request.headers {
            head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        head.extend(b"\r\n");
        // Where the server has heard enough it answers while we still write.
        let _ = stream.write_all(&[&head, &request.body[..request.sent]].concat());
        if request.sent < request.body.len() {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err("the server hangs".to_owned()),
            _ => parse(&answer),
        }
    }

    /// A note in `uploads`, a batch or a stored file is there for every upload that was taken, and for no other.
    fn nothing_else_is_kept(&self) {
        let database = self.app.data_dir().join(dripfeed::store::FILE_NAME);
        let database = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a database");
        let count = |table: &str| {
            let count = database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
            usize::try_from(count.expect("a count")).expect("a count")
        };
        let taken = self.taken();
        self.app.until("nothing is kept of what was refused", || {
            let stored = files(&self.app.data_dir().join("objects")).len();
            ((count("uploads"), count("batches"), stored) == (0, taken, taken)).then_some(())
        });
    }
}

fn parse(answer: &[u8]) -> Result<Option<Answer>, String> {
    let text = std::str::from_utf8(answer).map_err(|_| "the answer is not text".to_owned())?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no status")?;
    let is_problem = head.to_ascii_lowercase().contains("content-type: application/problem+json");
    if is_problem != (status >= 400) {
        return Err(format!("{status} has the wrong content type: {head}"));
    }
    let body = serde_json::from_str(body).map_err(|_| format!("{status} is not JSON: {body}"))?;
    Ok(Some(Answer { status, body }))
}

/// Whether the answer is one that the interface knows, and holds nothing private.
fn refused_or_taken(answer: &Answer) -> Result<(), String> {
    let Answer { status, body } = answer;
    if *status == 202 {
        return Ok(());
    }
    let code = body["code"].as_str().unwrap_or_default();
    if !REFUSALS.contains(&(*status, code)) || body["status"] != *status || !body["request_id"].is_string() {
        return Err(format!("not an answer of the interface: {status} {body}"));
    }
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    let known = FindingCode::ALL.iter().map(|code| code.as_str()).collect::<BTreeSet<_>>();
    let is_known =
        |error: &Value| error["line"].as_u64() >= Some(1) && known.contains(error["code"].as_str().unwrap_or_default());
    if (*status == 422) == errors.is_empty() || !errors.iter().all(is_known) {
        return Err(format!("errors without a line or a code of the interface: {body}"));
    }
    let mut told = body.clone();
    for error in told["errors"].as_array_mut().into_iter().flatten() {
        // The name of a column is told as the file has it.
        error["column"].take();
    }
    if told.to_string().contains(PRIVATE) { Err(format!("something private is told: {told}")) } else { Ok(()) }
}
