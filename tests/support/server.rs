//! A small HTTP server on loopback that answers as a test tells it, well or badly, and remembers what it was sent.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How long a server that has made up its mind to close a connection takes until it does: what a network adds.
const CLOSING: Duration = Duration::from_millis(30);

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    pub line: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// The same as it came.
    pub bytes: Vec<u8>,
    /// When it was there whole.
    pub at: Instant,
}

impl Received {
    /// The value of a header, by its lower-case name; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Without the query.
    pub fn path(&self) -> &str {
        self.line.split([' ', '?']).nth(1).unwrap_or_default()
    }
}

/// What the server does with a request.
pub enum Reply {
    /// A whole answer: status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// The same with a body of any bytes.
    Bytes(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// This, so long after the request arrived: after the other side's patience, it has been done and nobody knows.
    Late(Duration, Box<Reply>),
    /// A whole answer on a connection that is kept alive, but closed once nothing came for so long. What arrives while
    /// it closes is not read, as it happens with any server that ends idle connections.
    ThenIdle(Duration, Box<Reply>),
    /// Reads the request and closes without a word.
    Close,
    /// Says nothing until the other side gives up.
    Silence,
    /// Half of the body that it announced, then the end.
    CutOff,
    /// No HTTP.
    Garbage,
}

/// A good answer.
pub fn ok(body: &str) -> Reply {
    Reply::Answer(200, Vec::new(), body.to_owned())
}

/// An answer without a body.
pub fn status(status: u16) -> Reply {
    Reply::Answer(status, Vec::new(), String::new())
}

/// This, so long after the request arrived.
pub fn late(by: Duration, reply: Reply) -> Reply {
    Reply::Late(by, Box::new(reply))
}

type Handler = dyn Fn(&Received) -> Reply + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    unread: AtomicUsize,
    stop: AtomicBool,
}

/// A running server; ends when dropped.
pub struct Server {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    pub fn start(handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), handler)
    }

    /// At this address, where nobody listened until now.
    pub fn start_at(address: SocketAddr, handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            received: Mutex::default(),
            connections: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.stop.load(Ordering::SeqCst) {
                    return;
                }
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                let shared = accepting.clone();
                thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().expect("not poisoned").clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many requests have arrived.
    pub fn calls(&self) -> usize {
        self.shared.received.lock().expect("not poisoned").len()
    }

    /// Connections that were closed while a request that nobody had read lay in them.
    pub fn unread(&self) -> usize {
        self.shared.unread.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, so that it sees the sign and closes the port.
        let _ = TcpStream::connect(self.address);
    }
}

/// A port that nobody listens on.
pub fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        shared.received.lock().expect("not poisoned").push(request.clone());
        if !reply(&mut writer, &mut reader, (shared.handler)(&request), shared)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Acts as it was told; `false` where that is the connection's end.
fn reply(
    writer: &mut TcpStream,
    reader: &mut BufReader<TcpStream>,
    told: Reply,
    shared: &Shared,
) -> std::io::Result<bool> {
    match told {
        Reply::Answer(status, headers, body) => write_answer(writer, status, &headers, body.as_bytes()).map(|()| true),
        Reply::Bytes(status, headers, body) => write_answer(writer, status, &headers, &body).map(|()| true),
        Reply::Late(by, then) => {
            thread::sleep(by);
            reply(writer, reader, *then, shared)
        }
        Reply::ThenIdle(idle, then) => Ok(reply(writer, reader, *then, shared)? && stays(writer, idle, shared)?),
        Reply::Close => Ok(false),
        Reply::Silence => reader.read_to_end(&mut Vec::new()).map(|_| false),
        Reply::CutOff => writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"link\": ").map(|()| false),
        Reply::Garbage => writer.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").map(|()| false),
    }
}

fn write_answer(
    writer: &mut TcpStream,
    status: u16,
    headers: &[(&'static str, String)],
    body: &[u8],
) -> std::io::Result<()> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    writer.write_all(&[head.as_bytes(), body].concat())
}

/// Whether something comes in time. Where nothing does, whatever comes while it closes stays unread.
fn stays(stream: &TcpStream, idle: Duration, shared: &Shared) -> std::io::Result<bool> {
    let mut first = [0];
    stream.set_read_timeout(Some(idle))?;
    let came = stream.peek(&mut first);
    stream.set_read_timeout(None)?;
    if came.is_ok() {
        return Ok(true);
    }
    thread::sleep(CLOSING);
    stream.set_nonblocking(true)?;
    if stream.peek(&mut first).is_ok_and(|bytes| bytes > 0) {
        shared.unread.fetch_add(1, Ordering::SeqCst);
    }
    Ok(false)
}

fn read_request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Received>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    let body = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Some(Received { line: line.trim_end().to_owned(), headers, body, bytes, at: Instant::now() }))
}
