//! Connections as nobody's HTTP client makes them.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::Value;

use crate::support::app::{App, Setup};

/// Longer than any deadline of the server's for what is read here.
const PATIENCE: Duration = Duration::from_secs(30);

/// Nothing goes by itself.
pub fn idle() -> Setup {
    Setup { dispatch: "expect_every = \"1h\"\nmin_interval = \"0s\"".into(), ..Setup::default() }
}

pub fn address(app: &App) -> SocketAddr {
    app.url("").trim_start_matches("http://").trim_end_matches('/').parse().expect("an address")
}

/// A connection from the loopback address 127.0.0.`from`.
pub fn connection_from(app: &App, from: u8) -> TcpStream {
    let own = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, from), 0);
    let connection = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&connection, &own).expect("an address of our own");
    connect(&connection, &address(app)).expect("connected");
    let stream = TcpStream::from(connection);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

pub fn connection(app: &App) -> TcpStream {
    connection_from(app, 1)
}

/// An answer as it came.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Told {
    pub fn of(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Self { status: status.expect("a status"), headers, body: body.to_owned() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// What comes for these bytes until the server closes.
pub fn say(mut stream: TcpStream, bytes: &[u8]) -> String {
    // The server may answer, and close, before it has read everything.
    let _ = stream.write_all(bytes);
    heard(stream)
}

/// What comes until the server closes.
pub fn heard(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The answer to one request on a connection of its own, and how long it took.
pub fn ask(app: &App, from: u8, request: &str) -> (Told, Duration) {
    let begun = Instant::now();
    let head = format!("{request}\r\nHost: dripfeed\r\nConnection: close\r\n\r\n");
    let told = Told::of(&say(connection_from(app, from), head.as_bytes()));
    (told, begun.elapsed())
}
