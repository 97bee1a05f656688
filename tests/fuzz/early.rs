//! Uploads that are refused while they still come: the caller gets to see why, however much is still on its way.

use crate::server::{Request, Server};

/// Longer than what the sockets between two processes hold.
const LONG: usize = 12 << 20;

/// So many bytes below a header that is refused at once.
fn refused_at_once(bytes: usize) -> Request {
    Request::new("text/csv", format!("email,colour\n{}", "x".repeat(bytes)))
}

fn assert_refused(server: &Server, request: &Request, status: u16, code: &str) {
    let answer = server.check(request).expect("an answer of the interface").expect("an answer");
    assert_eq!((answer.status, answer.body["code"].as_str()), (status, Some(code)), "{}", answer.body);
}

#[test]
fn a_file_that_is_refused_at_its_header_says_so_however_long_it_is() {
    let server = Server::start();
    for request in (0..60).map(|step| refused_at_once(step * 7_000)).chain([refused_at_once(LONG)]) {
        assert_refused(&server, &request, 422, "invalid_file");
    }
}

#[test]
fn an_upload_that_is_refused_unread_says_why() {
    let server = Server::start();
    let body = || "x".repeat(LONG);
    let form = |head: &str| format!("--b\r\nContent-Disposition: form-data; {head}\r\n\r\n{}\r\n--b--\r\n", body());
    for (request, status, code) in [
        (Request::new("text/plain", body()), 415, "unsupported_media_type"),
        (Request::new("text/csv", body()).with("Content-Encoding", "br"), 415, "unsupported_media_type"),
        (Request::new("text/csv", body()).with("X-Dripfeed-Context", "[]"), 400, "bad_request"),
        (Request::new("multipart/form-data; boundary=b", form("name=\"other\"")), 400, "bad_request"),
        (Request::new("multipart/form-data; boundary=b", form("name=\"context\"")), 413, "too_large"),
    ] {
        assert_refused(&server, &request, status, code);
    }
}
