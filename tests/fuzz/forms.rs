//! Forms: with parts too many, too few, mangled, cut off, and with junk where nothing belongs.

use proptest::{collection::vec, prelude::*, sample::Index};

use crate::{
    damage::damaged,
    server::{PRIVATE, Request, Server, csv},
};

const BOUNDARY: &str = "a-boundary";
const FORM: &str = "multipart/form-data; boundary=a-boundary";

/// Head and content of a part, as bytes.
fn part(head: &str, content: &str) -> Vec<u8> {
    format!("--{BOUNDARY}\r\n{head}\r\n\r\n{content}\r\n").into_bytes()
}

fn file() -> Vec<u8> {
    part(&format!("Content-Disposition: form-data; name=\"file\"; filename=\"{PRIVATE}.csv\""), &csv())
}

fn context() -> Vec<u8> {
    part("Content-Disposition: form-data; name=\"context\"", &format!("{{\"note\": \"{PRIVATE}\"}}"))
}

/// Header lines that a part does not usually have.
fn odd_head() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("content-disposition:form-data;name=file".to_owned()),
        Just("Content-Disposition: form-data; name=\"file".to_owned()),
        Just("Content-Disposition: form-data; name=\"fi\\\"le\\\\\"; filename=\"\\\"".to_owned()),
        Just("Content-Disposition: form-data; name*=utf-8''file".to_owned()),
        Just("Content-Disposition: attachment; filename=\"name=file\"".to_owned()),
        Just("Content-Disposition: form-data\r\n ; name=\"file\"".to_owned()),
        Just("Content-Type: text/csv".to_owned()),
        Just(format!("{PRIVATE}: x\r\n").repeat(40) + "Content-Disposition: form-data; name=\"file\""),
        (1..200_000_usize).prop_map(|long| {
            format!("X-Long: {}\r\nContent-Disposition: form-data; name=\"file\"", "x".repeat(long))
        }),
        "[ -~]{0,80}",
        "[a-zA-Z-]{1,20}: \\PC{0,40}",
    ]
}

fn parts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(file()),
        2 => Just(context()),
        2 => odd_head().prop_map(|head| part(&head, &csv())),
        1 => "[a-z]{0,8}".prop_map(|name| part(&format!("Content-Disposition: form-data; name=\"{name}\""), PRIVATE)),
        1 => Just(format!("\r\n{PRIVATE}\r\n").into_bytes()),
    ]
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let end = prop_oneof![4 => Just(format!("--{BOUNDARY}--\r\n")), 1 => Just(String::new()), 1 => Just(format!("--{BOUNDARY}-- {PRIVATE}"))];
    (vec(parts(), 0..4), end).prop_map(|(parts, end)| [parts.concat(), end.into_bytes()].concat())
}

fn content_types() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => Just(FORM.to_owned()),
        1 => Just("multipart/form-data".to_owned()),
        1 => Just("multipart/form-data; boundary=".to_owned()),
        1 => Just("multipart/form-data; boundary=\"\"".to_owned()),
        1 => Just("Multipart/Form-Data; charset=utf-8; BOUNDARY=\"a-boundary\"".to_owned()),
        1 => "multipart/form-data; boundary=[ -~]{0,80}",
    ]
}

#[test]
fn every_form_gets_an_answer_and_a_refused_one_leaves_nothing() {
    let requests = (content_types(), damaged(bodies())).prop_map(|(kind, body)| Request::new(&kind, body));
    Server::start().hold(250, requests, &[202, 400, 422]);
}

#[test]
fn a_form_that_breaks_off_anywhere_leaves_nothing() {
    let body = [context(), file(), format!("--{BOUNDARY}--\r\n").into_bytes()].concat();
    let requests = any::<Index>().prop_map(move |at| {
        let whole = Request::new(FORM, body.clone());
        Request { sent: at.index(body.len()), ..whole }
    });
    Server::start().hold(60, requests, &[400]);
}

/// More than any form needs around its file.
const TOO_MUCH: usize = 1 << 20;

#[test]
fn what_a_form_holds_besides_its_file_is_bounded() {
    let server = Server::start();
    let whole = |front: &[u8], head: &str| {
        let head = format!("{head}Content-Disposition: form-data; name=\"file\"");
        Request::new(FORM, [front, &part(&head, &csv()), format!("--{BOUNDARY}--\r\n").as_bytes()].concat())
    };
    let long = "x".repeat(TOO_MUCH);
    for request in [whole(b"", &format!("X-Long: {long}\r\n")), whole(long.as_bytes(), "")] {
        let answer = server.check(&request).expect("an answer of the interface").expect("an answer");
        assert_eq!((answer.status, answer.body["code"].as_str()), (413, Some("too_large")), "{}", answer.body);
    }
    let answer =
        server.check(&whole(b"some lines in front\r\n", "X-Short: x\r\n")).expect("an answer of the interface");
    assert_eq!(answer.map(|answer| answer.status), Some(202));
    server.is_well();
}
