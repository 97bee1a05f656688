//! Requests that are never whole, with as much in front of the missing end as a request may have: what all of them hold
//! together has a limit, whoever asks for little is served meanwhile, and so is a newcomer who asks for more.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::AtomicBool,
    thread::scope,
};

use crate::{
    memory::{MOST, Over, Peak},
    raw::{Told, ask, connection_from, idle, say},
    support::app::{App, OPERATOR, people},
};

/// Headers of a request besides those that it needs.
const HEADERS: usize = 92;
/// A body that is as long as a small one may be, nearly, and how much of it comes.
const ANNOUNCED: usize = 16_300;
const SENT: usize = 16_000;
/// The addresses that attack, and how many connections each has.
const ADDRESSES: std::ops::Range<u8> = 10..18;
const OF_EACH: usize = 100;
/// Heads that are refused in no other way: of a few bytes more than is free of charge, and nearly as large as a head may be.
const HEADS: [usize; 3] = [14_000, 33_500, 61_000];

/// The lines that make a head so large.
fn ballast(bytes: usize) -> String {
    let value = "v".repeat(bytes / HEADERS - 12);
    (0..HEADERS).map(|number| format!("X-Name-{number:02}: {value}\r\n")).collect()
}

/// A request to this path, with a head of so many bytes, and most of its body.
fn half_sent(method: &str, path: &str, head: usize) -> Vec<u8> {
    let ballast = ballast(head);
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {ANNOUNCED}\r\n{ballast}\r\n\
         {{\"key\":\"{}",
        "k".repeat(SENT)
    );
    text.into_bytes()
}

/// The same in chunks, the last of which is missing.
fn half_chunked(path: &str, head: usize) -> Vec<u8> {
    let (ballast, text) = (ballast(head), "k".repeat(1_000));
    let chunks = format!("{:x}\r\n{text}\r\n", text.len()).repeat(SENT / 1_000);
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n{ballast}\r\n{chunks}"
    )
    .into_bytes()
}

/// Connections from every address of the attack on which this was said.
fn crowd(app: &App, bytes: &[u8]) -> Vec<TcpStream> {
    let connections = ADDRESSES.flat_map(|from| [from; OF_EACH]);
    let said = connections.map(|from| {
        let mut stream = connection_from(app, from);
        // The server may refuse it before it has everything.
        let _ = stream.write_all(bytes);
        stream
    });
    said.collect()
}

/// What the server has said on these so far, added to what it had said before.
fn hear(crowd: &mut [TcpStream], heard: &mut [String]) {
    for (stream, heard) in crowd.iter_mut().zip(heard) {
        let mut space = [0; 4_096];
        stream.set_nonblocking(true).expect("not blocking");
        let bytes = stream.read(&mut space).unwrap_or(0);
        stream.set_nonblocking(false).expect("blocking");
        heard.push_str(&String::from_utf8_lossy(&space[..bytes]));
    }
}

/// How many were told to come again, each in the form that every refusal has.
fn told_to_come_again(heard: &[String]) -> usize {
    let busy = heard.iter().filter(|told| told.starts_with("HTTP/1.1 429 ")).map(|told| Told::of(told));
    let proper = busy.inspect(|told| {
        assert_eq!(told.json()["code"], "busy", "{told:?}");
        assert!(told.headers["retry-after"].parse::<u64>().is_ok_and(|seconds| seconds > 0), "{told:?}");
        assert_eq!(told.headers["connection"], "close", "{told:?}");
    });
    proper.count()
}

/// Whoever asks for what people and programs ask for is served.
fn everybody_else_is_served(app: &App) {
    for path in ["/livez", "/readyz"] {
        assert_eq!(ask(app, 3, &format!("GET {path} HTTP/1.1")).0.status, 200, "{path}");
    }
    let key = format!("{{\"key\":\"{OPERATOR}\"}}");
    let sign_in = format!(
        "POST /session HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{key}",
        key.len()
    );
    assert_eq!(Told::of(&say(connection_from(app, 4), sign_in.as_bytes())).status, 200);
    // One with large cookies, of an address that has nothing else.
    let (told, _) = ask(app, 5, &format!("GET /livez HTTP/1.1\r\n{}", ballast(20_000).trim_end()));
    assert_eq!(told.status, 200, "{told:?}");
    let path = "/v2/client/users/batch/invite?validate_only=true";
    assert_eq!(app.upload_as(&app.key, path, &[("Content-Type", "text/csv")], people(3).as_bytes()).0, 200);
}

/// As many large ones as find room find it again once the others are gone: each is answered for what is in it.
fn all_is_given_back(app: &App) {
    let large = || {
        let mut stream = connection_from(app, 6);
        stream.write_all(&half_sent("POST", "/session", 61_000)).expect("sent");
        stream
    };
    app.until("all of it is given back", || {
        let mut several: Vec<_> = (0..20).map(|_| large()).collect();
        let rest = "k".repeat(ANNOUNCED - SENT);
        several.iter_mut().for_each(|stream| stream.write_all(rest.as_bytes()).expect("sent"));
        let answered = several.iter_mut().map(|stream| {
            let mut space = [0; 4_096];
            let bytes = stream.read(&mut space).expect("an answer");
            String::from_utf8_lossy(&space[..bytes]).starts_with("HTTP/1.1 400 ")
        });
        answered.filter(|is_whole| !is_whole).count().eq(&0).then_some(())
    });
}

/// What a crowd does that says this, until this is so of what it heard.
fn attack(bytes: &[u8], is_enough: impl Fn(&[String]) -> bool) {
    let app = App::start(idle());
    let (peak, over) = (Peak::default(), AtomicBool::new(false));
    scope(|scope| {
        let _over = Over(&over);
        peak.watch(scope, &app, &over);
        let mut crowd = crowd(&app, bytes);
        let mut heard = vec![String::new(); crowd.len()];
        everybody_else_is_served(&app);
        app.until("the crowd is told", || {
            hear(&mut crowd, &mut heard);
            is_enough(&heard).then_some(())
        });
        everybody_else_is_served(&app);
    });
    peak.is_below(MOST);
    all_is_given_back(&app);
}

fn some_come_again(heard: &[String]) -> bool {
    told_to_come_again(heard) > 0
}

#[test]
fn half_sent_sign_ins_with_large_heads_have_a_limit_over_all() {
    for head in HEADS {
        attack(&half_sent("POST", "/session", head), some_come_again);
    }
}

#[test]
fn half_sent_chunks_behind_large_heads_have_the_same() {
    attack(&half_chunked("/session", 61_000), some_come_again);
    attack(&half_chunked("/session", 2_000), some_come_again);
}

#[test]
fn heads_that_are_never_whole_have_the_same() {
    let half = half_sent("POST", "/session", 61_000);
    attack(&half[..60_000], some_come_again);
}

#[test]
fn whoever_shows_no_key_is_told_so_before_the_body_is_there() {
    for (method, path) in
        [("POST", "/ops/v1/clients"), ("PATCH", "/ops/v1/clients/acme"), ("POST", "/ops/v1/dispatch/pause")]
    {
        attack(&half_sent(method, path, 14_000), |heard| {
            heard.iter().filter(|told| told.starts_with("HTTP/1.1 401 ")).count() > ADDRESSES.len()
        });
    }
}

#[test]
fn large_heads_on_connections_that_are_kept_have_the_same() {
    let whole = |path: &str, ballast: String| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{ballast}\r\n");
    let once = whole("/livez", ballast(61_000));
    attack(once.as_bytes(), |heard| heard.iter().filter(|told| told.starts_with("HTTP/1.1 200 ")).count() > 700);
    // One behind the other, and none of the answers is taken.
    let pipelined = once.repeat(3);
    attack(pipelined.as_bytes(), |heard| heard.iter().filter(|told| told.starts_with("HTTP/1.1 200 ")).count() > 700);
}
