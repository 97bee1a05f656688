//! The client against servers that close, move, hang and lie.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Mutex,
    thread,
};

use super::{names::LIFETIME, *};
use crate::model::{Concurrency, Timestamp, workflow::Method};

/// Knows one name, whose addresses can be changed.
struct OneName(Mutex<Vec<SocketAddr>>);

impl Lookup for OneName {
    fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(self.0.lock().expect("not poisoned").clone())
    }
}

impl OneName {
    fn at(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self(Mutex::new(vec![address])))
    }

    fn move_to(&self, address: SocketAddr) {
        *self.0.lock().expect("not poisoned") = vec![address];
    }
}

/// Answers the first request of every connection with this status, and closes it.
fn server(status: u16) -> SocketAddr {
    serve(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), 1)
}

/// Answers every request of every connection with this status, and keeps them open.
fn keeping_server(status: u16) -> SocketAddr {
    serve(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"), usize::MAX)
}

/// Answers so many requests of every connection so.
fn serve(answer: String, requests: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || {
                let reader = BufReader::new(stream.try_clone().expect("a stream"));
                let ends = reader.lines().map_while(Result::ok).filter(String::is_empty);
                ends.take(requests).try_for_each(|_| stream.write_all(answer.as_bytes()))
            });
        }
    });
    address
}

fn dependency() -> Dependency {
    Dependency {
        name: "addresses".to_owned(),
        base_url: "http://addresses.example".to_owned(),
        rate_per_second: 1.0,
        burst: 1,
        concurrency: Concurrency::Fixed(1),
        max_concurrency: 1,
        adapt: true,
        timeout: Duration::from_secs(10),
        gate_after: 1,
        max_retry_after: Duration::from_secs(3_600),
        max_idle: Duration::from_secs(4),
        headers: BTreeMap::new(),
    }
}

fn get() -> Filled {
    let (path, query) = ("/".to_owned(), String::new());
    Filled { method: Method::Get, path, query, headers: Vec::new(), body: None }
}

const CARE: Care = Care { fresh: false, keeps_body: true };
const FRESH: Care = Care { fresh: true, ..CARE };

async fn status(client: &Client) -> Result<u16, CallError> {
    client.call(&get(), None, CARE).await.map(|answer| answer.status)
}

fn at(address: SocketAddr, dependency: Dependency) -> Client {
    let base_url = format!("http://{address}");
    Client::new(&Dependency { base_url, ..dependency }, Clock::machine()).expect("a client")
}

#[tokio::test]
async fn a_name_that_moves_is_followed_after_a_while_and_at_once_where_nobody_listens() {
    let clock = Clock::manual(Timestamp(0));
    let name = OneName::at(server(201));
    let client = Client::with_lookup(&dependency(), name.clone(), clock.clone()).expect("a client");
    assert_eq!(status(&client).await, Ok(201));

    name.move_to(server(202));
    assert_eq!(status(&client).await, Ok(201), "the old address is still believed");
    clock.advance(LIFETIME);
    assert_eq!(status(&client).await, Ok(202));

    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    name.move_to(nobody);
    clock.advance(LIFETIME);
    assert_eq!(status(&client).await.map_err(|error| error.effect), Err(Effect::NotSent));
    name.move_to(server(203));
    assert_eq!(status(&client).await, Ok(203));
}

#[tokio::test]
async fn a_name_that_moves_is_followed_although_the_old_address_keeps_its_connections() {
    let clock = Clock::manual(Timestamp(0));
    let name = OneName::at(keeping_server(201));
    let client = Client::with_lookup(&dependency(), name.clone(), clock.clone()).expect("a client");
    assert_eq!((status(&client).await, status(&client).await), (Ok(201), Ok(201)));
    name.move_to(keeping_server(202));
    clock.advance(LIFETIME);
    assert_eq!((status(&client).await, status(&client).await), (Ok(202), Ok(202)));
}

#[tokio::test]
async fn a_dead_address_in_front_costs_no_more_than_an_instant() {
    // What nobody answers at: a listener whose queue is full takes no further connection, and refuses none.
    let (dead, _full) = silent().await;
    let name = Arc::new(OneName(Mutex::new(vec![dead, keeping_server(201)])));
    let client = Client::with_lookup(&dependency(), name, Clock::machine()).expect("a client");
    let begun = Instant::now();
    assert_eq!(status(&client).await, Ok(201));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

async fn silent() -> (SocketAddr, (TcpListener, Vec<tokio::net::TcpStream>)) {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
    let socket = socket.expect("a socket");
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    rustix::net::listen(&socket, 0).expect("listens");
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().expect("an address");
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(address)).await
    {
        queued.push(stream);
    }
    (address, (listener, queued))
}

#[tokio::test]
async fn a_body_goes_with_every_method_that_has_one() {
    let client = at(server(200), dependency());
    for method in [Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete] {
        for body in [None, Some(b"{}".to_vec())] {
            let filled = Filled { method, body, ..get() };
            let answer = client.call(&filled, None, CARE).await;
            assert_eq!(answer.map(|answer| answer.status), Ok(200), "{method:?}");
        }
    }
}

/// Takes connections, and answers the first request of each; closes them as a second one has arrived, without a word.
fn giving_up() -> (SocketAddr, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let arrived = Arc::<Mutex<Vec<usize>>>::default();
    let counted = arrived.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let reader = BufReader::new(stream.try_clone().expect("a stream"));
            counted.lock().expect("not poisoned").push(0);
            for _ in reader.lines().map_while(Result::ok).filter(String::is_empty) {
                let mut arrived = counted.lock().expect("not poisoned");
                let here = arrived.last_mut().expect("pushed");
                *here += 1;
                if *here == 2 || stream.write_all(b"HTTP/1.1 204 X\r\n\r\n").is_err() {
                    break;
                }
            }
        }
    });
    (address, arrived)
}

#[tokio::test]
async fn what_meets_a_connection_that_was_given_up_says_so_and_a_new_one_is_not_a_kept_one() {
    let (address, arrived) = giving_up();
    let client = at(address, dependency());
    assert_eq!(status(&client).await, Ok(204));
    let lost = client.call(&get(), None, CARE).await.err();
    let told = lost.map(|error| (error.effect, error.was_given_up));
    assert_eq!(told, Some((Effect::Perhaps, true)), "it may have been read");
    assert_eq!(*arrived.lock().expect("not poisoned"), [2], "it left once");

    for _ in 0..3 {
        let answer = client.call(&get(), None, FRESH).await;
        assert_eq!(answer.map(|answer| answer.status), Ok(204));
    }
    assert_eq!(*arrived.lock().expect("not poisoned"), [2, 1, 1, 1], "and is not kept");
}

#[tokio::test]
async fn a_connection_that_rested_for_long_is_not_used_again_nor_is_any_by_what_leaves_on_a_new_one() {
    let (clock, connections) = (Clock::manual(Timestamp(0)), Arc::<Mutex<usize>>::default());
    let (listener, counted) = (TcpListener::bind("127.0.0.1:0").expect("a free port"), connections.clone());
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            *counted.lock().expect("not poisoned") += 1;
            thread::spawn(move || {
                let reader = BufReader::new(stream.try_clone().expect("a stream"));
                let mut ends = reader.lines().map_while(Result::ok).filter(String::is_empty);
                ends.try_for_each(|_| stream.write_all(b"HTTP/1.1 204 X\r\n\r\n"))
            });
        }
    });
    let base_url = format!("http://{address}");
    let dependency = Dependency { base_url, concurrency: Concurrency::Fixed(4), ..dependency() };
    let client = Client::new(&dependency, clock.clone()).expect("a client");
    for (rest, care, so_far) in [
        (Duration::ZERO, CARE, 1),
        (Duration::ZERO, CARE, 1),
        (Duration::ZERO, FRESH, 2),
        (dependency.max_idle, CARE, 2),
        (dependency.max_idle + Duration::from_millis(1), CARE, 3),
    ] {
        clock.advance(rest);
        client.call(&get(), None, care).await.expect("an answer");
        assert_eq!(*connections.lock().expect("not poisoned"), so_far, "after {rest:?}");
    }
}

#[tokio::test]
async fn heads_and_lengths_that_are_odd_are_taken_or_told() {
    let long = format!("HTTP/1.1 200 X\r\n{}Content-Length: 0\r\n\r\n", "X-T: 0123456789\r\n".repeat(200));
    let folded = "HTTP/1.1 200 X\r\nX-A: b\r\n c\r\nContent-Length : 0\r\n\r\n".to_owned();
    let twice = "HTTP/1.1 200 X\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n".to_owned();
    for answer in [long, folded, twice] {
        assert_eq!(status(&at(serve(answer.clone(), 1), dependency())).await, Ok(200), "{answer}");
    }
    for (wrong, words) in
        [("Content-Length: 3\r\nContent-Length: 4", "content-length"), ("Content-Length: some", "content-length")]
    {
        let answer = format!("HTTP/1.1 200 X\r\n{wrong}\r\n\r\nabc");
        let told = match at(serve(answer, 1), dependency()).call(&get(), None, CARE).await {
            Err(error) => error,
            Ok(answer) => panic!("{wrong}: {answer:?}"),
        };
        assert_eq!((told.code, told.effect), (FailureCode::Connection, Effect::Perhaps));
        assert!(told.what.contains(words), "{}", told.what);
    }
    let huge = format!("HTTP/1.1 200 X\r\n{}\r\n", "X-T: 0123456789\r\n".repeat(4_000));
    assert!(status(&at(serve(huge, 1), dependency())).await.is_err());
}

#[test]
fn settings_that_cannot_be_sent_are_refused_and_not_told() {
    let with = |base_url: &str, header: &str| Dependency {
        base_url: base_url.to_owned(),
        headers: BTreeMap::from([("X-Key".to_owned(), header.to_owned())]),
        ..dependency()
    };
    let refused = |dependency: &Dependency| Client::new(dependency, Clock::machine()).err();
    for base_url in ["", "addresses", "ftp://addresses", "/addresses", "http://"] {
        assert_eq!(refused(&with(base_url, "s3cret")), Some(ClientError::BaseUrl), "{base_url}");
    }
    assert_eq!(refused(&with("http://a", "s3cret\n")), Some(ClientError::Header("X-Key".to_owned())));
}

/// Takes connections, and answers what comes first with these bytes; with none it says nothing, and closes nothing.
fn answering(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            if !bytes.is_empty() {
                // What is not read would be answered with a reset.
                drop(io::Read::read(&mut stream, &mut [0; 4096]));
                drop(stream.write_all(bytes));
            }
            held.push(stream);
        }
    });
    address
}

#[tokio::test]
async fn a_port_that_speaks_another_protocol_than_the_url_says_is_told_as_such() {
    // A TLS alert: `unexpected_message`, fatal.
    let tls = at(answering(&[21, 3, 3, 0, 2, 2, 10]), dependency());
    let error = status(&tls).await.expect_err("no HTTP");
    assert_eq!((error.code, error.effect), (FailureCode::Connection, Effect::Perhaps), "who knows who read it");
    assert!(error.what.contains("speaks TLS") && error.what.contains("https://"), "{}", error.what);

    let secure = |address: SocketAddr| Dependency {
        base_url: format!("https://{address}"),
        timeout: Duration::from_millis(300),
        ..dependency()
    };
    for (server, code, said) in [
        (answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), FailureCode::Connection, "does not speak TLS"),
        (answering(b""), FailureCode::Timeout, "no answer to the handshake"),
    ] {
        let client = Client::new(&secure(server), Clock::machine()).expect("a client");
        let error = status(&client).await.expect_err("no TLS");
        assert_eq!((error.code, error.effect), (code, Effect::NotSent));
        assert!(error.what.contains(said) && error.what.contains("http://"), "{}", error.what);
    }
}

/// Takes one connection after the other, and does with each what it is told.
fn odd(with: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let with = with.clone();
            thread::spawn(move || with(stream));
        }
    });
    address
}

/// Until the head of a request has come.
fn take_head(stream: &mut TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && io::Read::read(stream, &mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
}

#[tokio::test]
async fn what_came_unasked_while_a_connection_rested_is_no_answer_to_what_leaves_next() {
    let (surplus_sent, surplus) = std::sync::mpsc::channel();
    let address = odd(move |mut stream| {
        take_head(&mut stream);
        let answered = stream.write_all(b"HTTP/1.1 201 X\r\nContent-Length: 0\r\n\r\n");
        thread::sleep(Duration::from_millis(20));
        // A late duplicate.
        let again = stream.write_all(b"HTTP/1.1 202 X\r\nContent-Length: 0\r\n\r\n");
        drop((answered, again, surplus_sent.send(())));
        take_head(&mut stream);
    });
    let client = at(address, dependency());
    for _ in 0..3 {
        assert_eq!(status(&client).await, Ok(201));
        // Without a turn of the runtime, which would hear of it.
        surplus.recv().expect("sent");
    }
}

#[tokio::test]
async fn a_large_request_leaves_whole_although_something_is_said_meanwhile() {
    const LARGE: usize = 4 << 20;
    let address = odd(|mut stream| {
        take_head(&mut stream);
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(20));
            drop(stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n"));
        }
        let mut body = io::Read::take(stream.try_clone().expect("a stream"), LARGE as u64);
        let came = io::copy(&mut body, &mut io::sink()).unwrap_or_default();
        let status = if came == LARGE as u64 { 200 } else { 400 };
        drop(write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
    });
    let large = Filled { method: Method::Post, body: Some(vec![b'1'; LARGE]), ..get() };
    let answer = at(address, dependency()).call(&large, None, CARE).await;
    assert_eq!(answer.map(|answer| answer.status), Ok(200));
}
