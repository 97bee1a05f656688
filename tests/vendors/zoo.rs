//! What the vendors have in common: how an appliance is set up towards them, and how what they were sent is counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    app::{App, OPERATOR, Setup},
    server::{Received, Reply, Server},
};

/// Runs as often as can be, and grants that bind nobody.
pub const DISPATCH: &str = "every = \"1s\"\nmin_interval = \"0s\"\nrows_per_client_per_run = 100000";
/// Quick, patient with failures, and not patient with silence.
pub const QUICK: &str = "rate_per_second = 200\nburst = 20\ntimeout = \"500ms\"\ngate_after = 100000";
/// Longer than the timeout of [`QUICK`].
pub const TOO_LATE: Duration = Duration::from_millis(900);

/// An appliance with these dependencies and workflows, everything else by default.
pub fn setup(more: &[String]) -> Setup {
    Setup {
        workers: String::new(),
        dispatch: DISPATCH.to_owned(),
        dependency: QUICK.to_owned(),
        more: more.concat(),
        ..Setup::default()
    }
}

/// A running one.
pub fn app(more: &[String]) -> App {
    App::start(setup(more))
}

/// `[dependencies.NAME]`
pub fn dependency(name: &str, address: SocketAddr, keys: &str) -> String {
    format!("[dependencies.{name}]\nbase_url = \"http://{address}\"\n{keys}\n")
}

/// `[workflows.NAME]` over a column `email`, which has to be there, and a text `note`.
pub fn workflow(name: &str, keys: &str, steps: &[String]) -> String {
    let steps: String = steps.iter().map(|step| format!("[[workflows.{name}.steps]]\n{step}\n")).collect();
    format!(
        r#"
[workflows.{name}]
upload_path = "/v2/client/{name}"
{keys}
[[workflows.{name}.columns]]
name = "email"
type = "email"
required = true
[[workflows.{name}.columns]]
name = "note"
max_length = 1000000
{steps}"#
    )
}

/// A step that posts the row's e-mail address to `/NAME`.
pub fn post(name: &str, dependency: &str, keys: &str) -> String {
    format!(
        "name = \"{name}\"\ndependency = \"{dependency}\"\nmethod = \"POST\"\npath = \"/{name}\"\n\
         json = {{ email = \"{{{{ row.email }}}}\" }}\n{keys}\n"
    )
}

/// One dependency, one workflow of one step, all of this name.
pub fn api(name: &str, server: &Server, dependency_keys: &str, workflow_keys: &str, step_keys: &str) -> String {
    let flow = workflow(name, workflow_keys, &[post(name, name, step_keys)]);
    dependency(name, server.address, dependency_keys) + &flow
}

/// Rows 1 to `rows`: `p1@DOMAIN`, `p2@DOMAIN` ...
pub fn people(domain: &str, rows: usize) -> String {
    of((1..=rows).map(|row| format!("p{row}@{domain}")))
}

/// A row for each address.
pub fn of<T: std::fmt::Display>(emails: impl IntoIterator<Item = T>) -> String {
    emails.into_iter().fold("email\n".to_owned(), |csv, email| csv + &format!("{email}\n"))
}

/// Uploads what has to be accepted, and returns the batch's id.
pub fn upload(app: &App, key: &str, workflow: &str, csv: &str) -> String {
    let path = format!("/v2/client/{workflow}");
    app.until("there is room for another upload", || {
        let (status, batch) = app.upload_as(key, &path, &[("Content-Type", "text/csv")], csv.as_bytes());
        assert!(status == 202 || batch["code"] == "busy", "{batch}");
        batch["id"].as_str().map(str::to_owned)
    })
}

/// Adds a client over the API, and returns its key.
pub fn add_client(app: &App, name: &str) -> String {
    let (status, added) = app.post_json(OPERATOR, "/ops/v1/clients", &json!({ "name": name }));
    assert!(matches!(status, 200 | 201), "{added}");
    added["key"].as_str().expect("a key").to_owned()
}

/// Pauses or resumes all dispatch.
pub fn dispatch(app: &App, what: &str) {
    let (status, said) = app.post_json(OPERATOR, &format!("/ops/v1/dispatch/{what}"), &json!({}));
    assert_eq!(status, 200, "{said}");
}

/// Waits until none of a batch's rows is unfinished.
pub fn ended(app: &App, key: &str, id: &str) -> Value {
    app.until(&format!("{id} is completed"), || {
        Some(app.batch_of(key, id)).filter(|batch| batch["status"] == "completed")
    })
}

/// Has failed rows of a batch tried again, and returns what came of it.
pub fn retry(app: &App, id: &str, query: &str) -> Value {
    let (status, mut batch) = app.post(&app.key, &format!("/v2/batches/{id}/retry{query}"));
    assert_eq!(status, 200, "{batch}");
    batch["retried"].take()
}

/// How many rows a retry says that it left alone, whatever the reason.
pub fn left_alone(retried: &Value) -> u64 {
    let fields = retried.as_object().expect("an object").iter();
    fields.filter(|(name, _)| name.starts_with("left_alone")).filter_map(|(_, count)| count.as_u64()).sum()
}

/// What each row of a batch ended with: its code, or its status where it did not fail; by e-mail address.
pub fn ends(app: &App, id: &str) -> BTreeMap<String, String> {
    let of_row = |row: &Value| {
        let word = row["error"]["code"].as_str().filter(|_| row["status"] == "failed");
        let word = word.or(row["status"].as_str()).expect("a status").to_owned();
        (row["data"]["email"].as_str().expect("an address").to_owned(), word)
    };
    app.rows(id).iter().map(of_row).collect()
}

/// A dependency, as the operator sees it.
pub fn dependency_of(app: &App, name: &str) -> Value {
    let (status, list) = app.get(OPERATOR, "/ops/v1/dependencies");
    assert_eq!(status, 200, "{list}");
    let all = list["dependencies"].as_array().expect("a list");
    all.iter().find(|dependency| dependency["name"] == name).expect(name).clone()
}

/// Whether a dependency's gate is open.
pub fn gate_is_open(app: &App, name: &str) -> bool {
    dependency_of(app, name)["gate"]["open"] == true
}

/// The e-mail address in a request's body.
pub fn email(request: &Received) -> String {
    let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
    body["email"].as_str().unwrap_or_default().to_owned()
}

/// What stands before the `@`.
pub fn who(request: &Received) -> String {
    email(request).split('@').next().unwrap_or_default().to_owned()
}

/// The client's domain.
pub fn domain(request: &Received) -> String {
    email(request).split('@').nth(1).unwrap_or_default().to_owned()
}

/// The keys that each address came with, call by call.
pub fn keys(server: &Server) -> BTreeMap<String, Vec<String>> {
    let mut keys = BTreeMap::<_, Vec<_>>::new();
    for request in server.received() {
        keys.entry(email(&request)).or_default().push(request.header("idempotency-key").to_owned());
    }
    keys
}

/// How often each address came.
pub fn counts(server: &Server) -> BTreeMap<String, usize> {
    keys(server).into_iter().map(|(email, keys)| (email, keys.len())).collect()
}

/// No address ever came under two keys, and none without one.
pub fn assert_one_key_each(server: &Server) {
    for (email, keys) in keys(server) {
        let distinct: BTreeSet<_> = keys.iter().collect();
        assert!(distinct.len() == 1 && !keys[0].is_empty(), "{email} came under {} keys: {keys:?}", distinct.len());
    }
}

/// How many requests arrived from `from` until `until`.
pub fn between(server: &Server, from: Instant, until: Instant) -> usize {
    server.received().iter().filter(|request| (from..until).contains(&request.at)).count()
}

/// When the first request came.
pub fn first_call(app: &App, server: &Server) -> Instant {
    app.until("the vendor is called", || server.received().first().map(|request| request.at))
}

/// Lets time pass that has to pass for there to be something to see.
pub fn pass(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

/// Counts calls by whatever they are told apart by.
#[derive(Default)]
pub struct Turns(Mutex<BTreeMap<String, usize>>);

impl Turns {
    /// The how-manieth this one is, from 1.
    pub fn take(&self, whose: String) -> usize {
        let mut turns = self.0.lock().expect("not poisoned");
        let turn = turns.entry(whose).or_default();
        *turn += 1;
        *turn
    }
}

/// Created, with an id that follows from the row.
pub fn created(request: &Received) -> Reply {
    Reply::Answer(201, Vec::new(), json!({ "id": format!("id-{}", who(request)) }).to_string())
}

/// A status with a header.
pub fn with(status: u16, name: &'static str, value: impl Into<String>) -> Reply {
    Reply::Answer(status, vec![(name, value.into())], String::new())
}

/// The database, as another process sees it.
pub fn database(app: &App) -> rusqlite::Connection {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
    let path = app.data_dir().join("dripfeed.db");
    let database = rusqlite::Connection::open_with_flags(path, flags).expect("the app's database");
    database.busy_timeout(Duration::from_secs(10)).expect("set");
    database
}
