//! The upload call to its end: made once, answered in full, watched until its batch is done.

#[path = "../support/mod.rs"]
mod support;

mod all_errors;
mod bodies;
mod events;
mod once;
mod outlook;

use std::io::Read;

use rusqlite::Connection;
use serde_json::Value;
use support::app::{App, Setup, agent, files};

const PATH: &str = "/v2/client/users/batch/invite";
const CSV: (&str, &str) = ("Content-Type", "text/csv");
const HEADER: &str = "email,first_name,last_name,phone,postcode,house_number\n";

/// An answer, as it came.
struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// Status and code of a problem.
    fn code(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().expect("a problem").to_owned())
    }

    /// The id of the batch that an upload became.
    fn id(&self) -> String {
        assert_eq!(self.status, 202, "{}", self.json());
        self.json()["id"].as_str().expect("an id").to_owned()
    }
}

/// A server on which nothing is dispatched by itself.
fn idle() -> App {
    App::start(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() })
}

fn upload(app: &App, key: &str, path: &str, headers: &[(&str, &str)], body: impl ureq::AsSendBody) -> Answer {
    let mut request = agent().post(app.url(path)).header("Authorization", format!("Bearer {key}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    read(request.send(body).expect("an answer"))
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> Answer {
    let mut body = Vec::new();
    response.body_mut().as_reader().read_to_end(&mut body).expect("a body");
    Answer { status: response.status().as_u16(), headers: response.headers().clone(), body }
}

fn form(parts: &[(&str, &str)]) -> (String, Vec<u8>) {
    let parts = parts.iter().map(|(disposition, content)| {
        format!("--a-boundary\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n")
    });
    let body = parts.collect::<String>() + "--a-boundary--\r\n";
    ("multipart/form-data; boundary=a-boundary".to_owned(), body.into_bytes())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// What is there of uploads: batches of `acme`, stored files, files that lie aside.
fn kept(app: &App) -> (usize, usize, usize) {
    let batches = app.get(&app.key, "/v2/batches").1["batches"].as_array().expect("a list").len();
    (batches, files(&app.data_dir().join("objects")).len(), files(&app.data_dir().join("spool")).len())
}

/// The database of an app, as another process sees it.
fn database(app: &App) -> Connection {
    let database = Connection::open(app.data_dir().join("dripfeed.db")).expect("the app's database");
    database.busy_timeout(support::app::DEADLINE).expect("set");
    database
}
