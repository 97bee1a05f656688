//! Files of all errors that nobody takes: they keep no other client from its own, and the disk and the memory from nobody.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::AtomicBool,
    thread::scope,
};

use crate::{
    memory::{MOST, Over, Peak},
    raw::{Told, connection, heard, idle},
    support::app::{App, Setup},
};

/// Rows of a bad file. Its errors come to a megabyte, which is more than the system takes in of an answer at once.
const ROWS: usize = 6_000;
/// Each row lacks two values, and repeats the address of the first.
const ERRORS: usize = 3 * ROWS - 1;

fn bad(rows: usize) -> String {
    "email,first_name,last_name,phone,postcode,house_number\n".to_owned()
        + &"a@mail.example,,Smith,,AB1 2CD,\n".repeat(rows)
}

/// Uploads a bad file and wants all its errors, of which nothing is taken but the head of the answer.
fn asks(app: &App, key: &str) -> (TcpStream, String) {
    let (mut stream, body) = (connection(app), bad(ROWS));
    let head = format!(
        "POST /v2/client/users/batch/invite HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\
         Content-Type: text/csv\r\nAccept: text/csv\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).expect("sent");
    let (mut told, mut byte) = (String::new(), [0]);
    while !told.ends_with("\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        told.push(byte[0].into());
    }
    assert_eq!(Told::of(&told).status, 422, "{told}");
    (stream, told)
}

/// Whether that is the answer that was wanted.
fn is_file((_, head): &(TcpStream, String)) -> bool {
    Told::of(head).headers["content-type"].starts_with("text/csv")
}

/// What who finds no place for a file is told in its stead: what everybody is told who wants none.
fn is_told_the_first((stream, head): (TcpStream, String)) {
    let told = Told::of(&(head + &heard(stream))).json();
    assert_eq!((&told["code"], &told["error_count"]), (&"invalid_file".into(), &ERRORS.into()), "{told}");
    assert_eq!(told["errors"].as_array().map(Vec::len), Some(100), "{told}");
    assert!(told["detail"].as_str().is_some_and(|detail| detail.contains("All of them as a file")), "{told}");
}

#[test]
fn files_that_one_client_does_not_take_keep_no_other_from_its_own() {
    let app = App::start(idle());
    let globex = app.add_client("globex", None);
    let mut untaken: Vec<_> = (0..18).map(|_| asks(&app, &app.key)).collect();
    let beyond = untaken.split_off(2);
    assert!(untaken.iter().all(is_file), "{untaken:?}");
    beyond.into_iter().for_each(is_told_the_first);

    let other = asks(&app, &globex);
    assert!(is_file(&other), "{other:?}");
    assert_eq!(heard(other.0).matches("_value,").count(), ERRORS, "all of it comes");
    drop(untaken);
    app.until("the places are free again", || is_file(&asks(&app, &app.key)).then_some(()));
}

/// How many there are over all is for a test of the places: so many made here would take longer than one may lie untaken.
#[test]
fn files_of_many_clients_that_nobody_takes_take_little_memory() {
    let app = App::start(idle());
    let (peak, over) = (Peak::default(), AtomicBool::new(false));
    scope(|scope| {
        let _over = Over(&over);
        peak.watch(scope, &app, &over);
        let clients: Vec<_> = (0..12).map(|number| app.add_client(&format!("client-{number}"), None)).collect();
        let untaken: Vec<_> = clients.iter().flat_map(|key| [(); 2].map(|()| asks(&app, key))).collect();
        assert!(untaken.iter().all(is_file));
    });
    peak.is_below(MOST / 2);
}

#[test]
fn what_is_wrong_with_a_file_does_not_reach_into_the_reserve() {
    let app = App::start(Setup { storage: "reserve = \"1000000GB\"".into(), ..idle() });
    let check = |accept: &str, rows: usize| {
        let path = "/v2/client/users/batch/invite?validate_only=true";
        app.upload_as(&app.key, path, &[("Content-Type", "text/csv"), ("Accept", accept)], bad(rows).as_bytes())
    };
    let (status, problem) = check("text/csv", 3 * ROWS);
    assert_eq!((status, &problem["code"]), (507, &"disk_full".into()), "{problem}");
    assert!(app.log().contains("are kept back (storage.reserve)"), "{}", app.log());
    // Next to nothing of it finds room always, and so does what goes to no disk.
    assert_eq!(check("text/csv", 10).0, 422);
    let (status, problem) = check("application/json", ROWS);
    assert_eq!((status, &problem["error_count"]), (422, &ERRORS.into()));
}
