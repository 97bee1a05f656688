//! Uploads that come a byte at a time, and answers that are taken so, keep no other client out, and end. What is slow and no
//! slower than the least rate goes on.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    raw::{Told, address, connection, heard, idle},
    support::app::{App, Setup, people},
};

/// An upload of which no more comes than its header; it has its place, or was told no.
fn trickled(app: &App, key: &str) -> TcpStream {
    begun(app, key, 1_000_000)
}

/// The same for a file of so many bytes.
fn begun(app: &App, key: &str, bytes: usize) -> TcpStream {
    let mut stream = connection(app);
    let head = format!(
        "POST /v2/client/users/batch/invite HTTP/1.1\r\nHost: a\r\nContent-Type: text/csv\r\nAuthorization: Bearer {key}\r\n\
         Content-Length: {bytes}\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    // The body is asked for once there is a place for it.
    stream.peek(&mut [0]).expect("an answer");
    stream.write_all(b"email,first_name,last_name,phone,postcode,house_number\n").expect("sent");
    stream
}

#[test]
fn one_clients_trickles_leave_a_place_to_every_other() {
    let app = App::start(idle());
    let globex = app.add_client("globex", None);
    let mut trickles: Vec<_> = (0..4).map(|_| trickled(&app, &app.key)).collect();
    let refused = Told::of(&heard(trickles.pop().expect("the last")));
    assert_eq!((refused.status, &refused.json()["code"]), (429, &"busy".into()), "{refused:?}");
    let begun = Instant::now();
    let (status, batch) = app.upload(&globex, people(3));
    assert_eq!(status, 202, "{batch}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn where_all_places_are_trickled_away_the_slowest_makes_way() {
    let app = App::start(idle());
    let keys: Vec<_> = (0..5).map(|number| app.add_client(&format!("client-{number}"), None)).collect();
    let over = AtomicBool::new(false);
    let ended = thread::scope(|scope| {
        let trickles: Vec<_> = keys[..4]
            .iter()
            .map(|key| {
                let (mut stream, over) = (trickled(&app, key), &over);
                scope.spawn(move || {
                    while !over.load(Ordering::SeqCst) && stream.write_all(b"a").is_ok() {
                        thread::park_timeout(Duration::from_millis(100));
                    }
                    // Those that are still under way are let go.
                    let is_over = over.load(Ordering::SeqCst);
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    (is_over, heard(stream))
                })
            })
            .collect();
        let (status, batch) = app.until("there is a place for another client", || {
            Some(app.upload(&keys[4], people(3))).filter(|(status, _)| *status != 429)
        });
        assert_eq!(status, 202, "{batch}");
        over.store(true, Ordering::SeqCst);
        trickles.into_iter().map(|trickle| trickle.join().expect("no panic")).collect::<Vec<_>>()
    });
    let slow = ended.iter().filter(|(_, told)| told.contains("408 Request Timeout")).count();
    assert_eq!(slow, 1, "one of them made way: {ended:#?}");
    assert!(ended.iter().any(|(_, told)| told.contains("it made way")), "{ended:#?}");
}

/// Sends a body in pieces of so many bytes, ten a second, until it ends or the server says something; what that is, and after
/// how long.
fn uploaded_at(app: &App, key: &str, body: &[u8], bytes: usize) -> (Told, Duration) {
    let (mut stream, begun) = (connection(app), Instant::now());
    let head = format!(
        "POST /v2/client/users/batch/invite HTTP/1.1\r\nHost: a\r\nContent-Type: text/csv\r\nAuthorization: Bearer {key}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    for piece in body.chunks(bytes) {
        stream.set_nonblocking(true).expect("not blocking");
        let is_answered = stream.peek(&mut [0]).is_ok();
        stream.set_nonblocking(false).expect("blocking");
        if is_answered || stream.write_all(piece).is_err() {
            break;
        }
        thread::park_timeout(Duration::from_millis(100));
    }
    (Told::of(&heard(stream)), begun.elapsed())
}

/// Takes an answer so many bytes at a time, ten times a second, until this is over; whether there was always some of it.
fn taken_at(mut stream: TcpStream, bytes: usize, over: &AtomicBool) -> bool {
    let mut piece = vec![0; bytes];
    while !over.load(Ordering::SeqCst) {
        if !matches!(stream.read(&mut piece), Ok(1..)) {
            return false;
        }
        thread::park_timeout(Duration::from_millis(100));
    }
    true
}

/// Whether the server has the other end of this open still, as the system tells it (`man 5 proc_net`). This end does not learn
/// of it before it has taken what is on its way.
fn is_open(app: &App, port: u16) -> bool {
    const ESTABLISHED: &str = "01";
    let ends = [address(app).port(), port].map(|port| format!(":{port:04X}"));
    let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", app.process_id())).expect("the server is alive");
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().take(4).collect();
        matches!(fields[..], [_, local, remote, ESTABLISHED] if local.ends_with(&ends[0]) && remote.ends_with(&ends[1]))
    })
}

/// A file of so many bytes at least.
fn file(mark: &str, bytes: usize) -> Vec<u8> {
    let cell = "x".repeat(1_000);
    let mut file = b"email,first_name,last_name,postcode,house_number\n".to_vec();
    for row in 0.. {
        if file.len() >= bytes {
            break;
        }
        writeln!(file, "{mark}{row}@mail.example,{cell},{cell},AB1 2CD,{cell}").expect("written");
    }
    file
}

#[test]
fn an_upload_that_is_slower_than_the_least_rate_ends_in_time_and_a_faster_one_goes_on() {
    /// Over so long it is judged.
    const WINDOW: u64 = 30;
    let app = App::start(idle());
    let [trickle, fine] = [("trickle", 100_000), ("fine", 45 * 8 * 1024)]
        .map(|(name, bytes)| (app.add_client(name, None), file(name, bytes)));
    thread::scope(|scope| {
        let trickle = scope.spawn(|| uploaded_at(&app, &trickle.0, &trickle.1, 40));
        // Twice the least rate, for one and a half windows.
        let fine = scope.spawn(|| uploaded_at(&app, &fine.0, &fine.1, 820));
        let (told, took) = trickle.join().expect("no panic");
        assert_eq!((told.status, &told.json()["code"]), (408, &"request_timeout".into()), "{told:?}");
        assert!((WINDOW..WINDOW + 10).contains(&took.as_secs()), "it ended after {took:?}");
        let (told, took) = fine.join().expect("no panic");
        assert_eq!(told.status, 202, "{told:?} after {took:?}");
    });
}

#[test]
fn three_clients_that_do_not_trickle_have_all_places_for_so_long_and_a_fourth_has_the_next() {
    /// Far above what has to make way, and longer under way than they may be.
    const PIECE: usize = 20_000;
    let app = App::start(Setup { more: "[uploads]\nlongest = \"10s\"".into(), ..idle() });
    let keys = ["one", "two", "three", "four"].map(|name| app.add_client(name, None));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // The first has two of the four places.
        let slow = [0, 0, 1, 2].map(|client| (client, begun(&app, &keys[client], 100 << 20)));
        let slow = slow.map(|(client, mut stream)| {
            let over = &over;
            scope.spawn(move || {
                for piece in file(&format!("slow{client}"), 1_200 * PIECE).chunks(PIECE) {
                    if over.load(Ordering::SeqCst) || stream.write_all(piece).is_err() {
                        break;
                    }
                    thread::park_timeout(Duration::from_millis(100));
                }
                let _ = stream.shutdown(std::net::Shutdown::Write);
                heard(stream)
            })
        });
        // It stores nothing, and needs a place all the same.
        let path = "/v2/client/users/batch/invite?validate_only=true";
        let upload = || app.upload_as(&keys[3], path, &[("Content-Type", "text/csv")], people(3).as_bytes());
        assert_eq!(upload().0, 429, "all places are taken");
        let (status, told) = app.until("a place", || Some(upload()).filter(|(status, _)| *status != 429));
        over.store(true, Ordering::SeqCst);
        assert_eq!(status, 200, "{told}");
        let ended = slow.map(|upload| upload.join().expect("no panic"));
        let made_way = ended.iter().filter(|told| told.contains("it made way")).count();
        assert_eq!(made_way, 1, "one of them: {ended:#?}");
    });
}

#[test]
fn an_answer_that_is_taken_slower_than_the_least_rate_is_cut_off_and_a_faster_one_is_not() {
    /// Over so long it is judged. What the system takes in at once buys one window more.
    const WINDOW: u64 = 60;
    let app = App::start(idle());
    let (status, batch) = app.upload(&app.key, file("large", 8 << 20));
    assert_eq!(status, 202, "{batch}");
    let id = batch["id"].as_str().expect("an id");
    app.until_status(id, "queued");
    let results = format!("/v2/batches/{id}/results.csv");
    let head = format!("GET {results} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n", app.key);
    let [slow, fine] = [(); 2].map(|()| {
        let mut stream = connection(&app);
        stream.write_all(head.as_bytes()).expect("sent");
        stream
    });
    let port = slow.local_addr().expect("an address").port();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let begun = Instant::now();
        scope.spawn(|| taken_at(slow, 40, &over));
        // Four times the least rate.
        let fine = scope.spawn(|| taken_at(fine, 1_640, &over));
        assert!(is_open(&app, port));
        while is_open(&app, port) && begun.elapsed() < Duration::from_secs(3 * WINDOW) {
            thread::park_timeout(Duration::from_millis(200));
        }
        let ended = begun.elapsed();
        over.store(true, Ordering::SeqCst);
        assert!((WINDOW..2 * WINDOW + 10).contains(&ended.as_secs()), "it was cut off after {ended:?}");
        assert!(fine.join().expect("no panic"), "the faster one goes on");
    });
}
