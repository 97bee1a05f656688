//! Who connects and says nothing, or next to nothing, keeps nobody out, and not for long.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{
    raw::{Told, ask, connection, connection_from, heard, idle, say},
    support::app::{App, people},
};

/// What is answered within this is answered at once, on a machine that has other things to do too.
const SOON: Duration = Duration::from_secs(3);

/// Whether the server has closed it by now.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("not blocking");
    let read = stream.read(&mut [0]);
    stream.set_nonblocking(false).expect("blocking");
    !matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn more_silent_connections_than_there_are_places_keep_nobody_out() {
    let app = App::start(idle());
    let mut silent: Vec<_> = (2..=12).flat_map(|from| (0..100).map(move |_| from)).collect();
    let mut silent: Vec<_> = silent.drain(..).map(|from| connection_from(&app, from)).collect();
    assert!(silent.len() > 1_024);
    for from in [1, 2, 200] {
        for path in ["/livez", "/readyz"] {
            let (told, took) = ask(&app, from, &format!("GET {path} HTTP/1.1"));
            assert_eq!(told.status, 200, "{told:?}");
            assert!(took < SOON, "{path} took {took:?}");
        }
    }
    app.accepted(people(3));
    let closed = silent.iter_mut().filter_map(|stream| is_closed(stream).then_some(())).count();
    assert!((1_100 - 1_024..200).contains(&closed), "only as many as had to go: {closed}");
}

#[test]
fn one_address_has_its_share_and_its_own_silent_ones_make_way() {
    let app = App::start(idle());
    let mut silent: Vec<_> = (0..200).map(|_| connection_from(&app, 2)).collect();
    let (told, took) = ask(&app, 2, "GET /livez HTTP/1.1");
    assert!(told.status == 200 && took < SOON, "{told:?} took {took:?}");
    let open = app.until("all were accepted", || {
        let open = silent.iter_mut().filter_map(|stream| (!is_closed(stream)).then_some(())).count();
        (open <= 128).then_some(open)
    });
    assert!(open >= 120, "{open} are left");
    assert!(!is_closed(&mut silent[199]), "the oldest went first");
}

/// Takes every place that there is for connections on which this was said, of twelve addresses.
fn places_taken_by(app: &App, said: &[u8]) -> Vec<TcpStream> {
    let connections = (2..=13).flat_map(|from| (0..100).map(move |_| from));
    let said = connections.map(|from| {
        let mut stream = connection_from(app, from);
        stream.set_nonblocking(true).expect("not blocking");
        // Where there was no place for it, it was closed.
        let _ = stream.write(said);
        stream.set_nonblocking(false).expect("blocking");
        stream
    });
    said.collect()
}

#[test]
fn connections_that_wait_for_their_caller_keep_nobody_out() {
    let app = App::start(idle());
    let half_sent = "POST /session HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n{\"key\":";
    let half_a_head = "POST /session HTTP/1.1\r\nHost: a\r\nContent-Type: app";
    // More than the system takes in of what is answered.
    let untaken = "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20);
    let guessed = "GET /v2/batches HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nobodys\r\n\r\n".repeat(20);
    for said in [half_sent, half_a_head, &untaken, &guessed] {
        let taken = places_taken_by(&app, said.as_bytes());
        for from in 50..150 {
            let (told, took) = ask(&app, from, "GET /readyz HTTP/1.1");
            assert_eq!(told.status, 200, "{from}, beside {said:.60}: {told:?}");
            assert!(took < SOON, "it took {took:?}");
        }
        // A client of an address that is known is let in too, with what it has to say.
        let sign_in = format!("{half_sent}\"{}\"}}", "k".repeat(40 - 10));
        let told = Told::of(&say(connection_from(&app, 200), sign_in.as_bytes()));
        assert_eq!(told.status, 401, "{told:?}");
        drop(taken);
    }
}

#[test]
fn the_first_byte_and_the_head_have_deadlines_from_the_start() {
    let app = App::start(idle());
    let begun = Instant::now();
    let (silent, mut trickled, mut preface) = (connection(&app), connection(&app), connection(&app));
    preface.write_all(b"PRI * HTTP/2.").expect("sent");
    let trickling = std::thread::spawn(move || {
        // A byte resets nothing.
        while begun.elapsed() < Duration::from_secs(14) && trickled.write_all(b"\r\n").is_ok() {
            std::thread::park_timeout(Duration::from_millis(500));
        }
        (heard(trickled), begun.elapsed())
    });
    assert_eq!(heard(silent), "", "who says nothing is told nothing");
    let silent_for = begun.elapsed();
    let late = Told::of(&heard(preface));
    let (trickled, trickled_for) = trickling.join().expect("no panic");
    for took in [silent_for, begun.elapsed(), trickled_for] {
        assert!((9..16).contains(&took.as_secs()), "{took:?}");
    }
    for told in [late, Told::of(&trickled)] {
        assert_eq!((told.status, &told.json()["code"]), (408, &"request_timeout".into()), "{told:?}");
    }
}

#[test]
fn clear_text_http_2_is_not_spoken() {
    let app = App::start(idle());
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let told = Told::of(&say(connection(&app), preface));
    assert_eq!((told.status, &told.json()["code"]), (400, &"bad_request".into()), "{told:?}");
    assert!(told.body.contains("HTTP/1.1"), "{told:?}");
    let upgrade = "GET /livez HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__";
    let told = Told::of(&say(connection(&app), format!("{upgrade}\r\nHost: a\r\n\r\n").as_bytes()));
    assert_eq!(told.status, 200, "it is answered in HTTP/1.1: {told:?}");
}
