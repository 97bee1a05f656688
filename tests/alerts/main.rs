//! What an operator is told without asking: dispatch calls that stop, and alerts.

#[path = "../support/mod.rs"]
mod support;

mod batches;
mod delivery;
mod server;
mod ticks;

use std::{
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use support::{
    app::{App, OPERATOR, Setup},
    server::{Server, status},
};

/// How everything is.
fn overview(app: &App) -> Value {
    let (status, overview) = app.get(OPERATOR, "/ops/v1/overview");
    assert_eq!(status, 200, "{overview}");
    overview
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The lines of the log with this event.
fn logged(app: &App, event: &str) -> Vec<Value> {
    let log = app.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == event).collect()
}

/// Somebody who is told of alerts.
struct Receiver {
    server: Server,
    is_down: Arc<AtomicBool>,
}

impl Receiver {
    fn start() -> Self {
        let is_down = Arc::<AtomicBool>::default();
        let down = is_down.clone();
        let server = Server::start(move |_| status(if down.load(Ordering::SeqCst) { 503 } else { 200 }));
        Self { server, is_down }
    }

    /// What refuses messages from now on, or takes them.
    fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    /// The section of a hook that ends here.
    fn hook(&self, name: &str, format: &str) -> String {
        let url = self.server.url();
        format!("[alerts.hooks.{name}]\nurl = \"{url}/services/hush?key=hush\"\nformat = \"{format}\"\n")
    }

    /// Every message, as JSON, in the order of their coming.
    fn messages(&self) -> Vec<Value> {
        let received = self.server.received();
        received.iter().map(|received| serde_json::from_str(&received.body).expect("JSON")).collect()
    }

    /// The state and the subject of every message of a kind.
    fn told(&self, kind: &str) -> Vec<(String, String)> {
        let messages = self.messages();
        let of_kind = messages.iter().filter(|message| message["alert"] == kind);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        of_kind.map(|message| (text(&message["state"]), text(&message["subject"]))).collect()
    }

    /// Waits until so many messages of a kind have come, and returns the last one.
    fn until(&self, app: &App, kind: &str, count: usize) -> Value {
        app.until(&format!("{count} messages of {kind}"), || {
            let messages = self.messages();
            let mut of_kind = messages.into_iter().filter(|message| message["alert"] == kind);
            of_kind.nth(count - 1)
        })
    }
}

fn firing(subject: &str) -> (String, String) {
    ("firing".to_owned(), subject.to_owned())
}

fn resolved(subject: &str) -> (String, String) {
    ("resolved".to_owned(), subject.to_owned())
}

/// A setup in which nothing is dispatched by itself, that looks often and tells this hook.
fn watched(alerts: &str, hooks: &str) -> Setup {
    Setup {
        dispatch: "min_interval = \"0s\"".into(),
        more: format!(
            "[alerts]\ncheck_every = \"100ms\"\nname = \"eu-1\"\ndisk_free_below = \"0B\"\n{alerts}\n{hooks}"
        ),
        ..Setup::default()
    }
}

/// The database of an app, as another process sees it.
fn database(app: &App) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    Connection::open_with_flags(app.data_dir().join("dripfeed.db"), flags).expect("the app's database")
}

/// Makes a batch of which nothing was worked one that could not be extracted.
fn fail(app: &App, id: &str) {
    let failed = database(app).execute(
        "UPDATE batches SET status = 'failed', error_code = 'damaged_file', error_message = 'damaged', cancelled = pending,
                            pending = 0, finished_at = unixepoch('now') * 1000
         WHERE id = ? AND status = 'queued'",
        [id],
    );
    assert_eq!(failed, Ok(1));
}

/// Replaces a text of the configuration, for the next start.
fn configure(app: &App, from: &str, to: &str) {
    let path = app.folder.path().join("dripfeed.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    assert!(text.contains(from), "{text}");
    std::fs::write(&path, text.replace(from, to)).expect("written");
}

/// What nobody outside may read: values of rows, the client's name, and the secret part of a hook's address.
fn assert_tells_nothing_private(text: &str) {
    for private in ["mail.example", "Ann", "Smith", "07700", "AB1 2CD", "acme", "hush"] {
        assert!(!text.contains(private), "{private} in {text}");
    }
}
