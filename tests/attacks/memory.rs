//! A pod has 128 MiB. Whatever is asked for, and from however many sides, all of it together takes less.

use std::{
    io::Write,
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    thread::{Scope, park_timeout, scope},
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};

use crate::support::app::{App, OPERATOR, Setup, agent};

pub const MIB: u64 = 1 << 20;
/// What the container has.
pub const MOST: u64 = 128 * MIB;
/// How long the attack from all sides lasts.
const LASTS: Duration = Duration::from_secs(5);
const GZIPPED: [(&str, &str); 2] = [("Content-Type", "text/csv"), ("Content-Encoding", "gzip")];
const UPLOAD: &str = "/v2/client/users/batch/invite";

/// A file of valid rows that are as wide as the built-in workflow lets them be: three cells of a thousand characters that
/// have four bytes each. Gzipped, there is next to nothing of it.
fn wide(rows: usize, mark: &str) -> Vec<u8> {
    let cell = "𐍈".repeat(1000);
    let mut file = GzEncoder::new(Vec::new(), Compression::fast());
    writeln!(file, "email,first_name,last_name,postcode,house_number").expect("written");
    for row in 0..rows {
        writeln!(file, "{mark}{row}@mail.example,{cell},{cell},AB1 2CD,{cell}").expect("written");
    }
    file.finish().expect("a file")
}

fn accepted(app: &App, file: &[u8]) -> String {
    let (status, batch) = app.upload_as(&app.key, UPLOAD, &GZIPPED, file);
    assert_eq!(status, 202, "{batch}");
    batch["id"].as_str().expect("an id").to_owned()
}

/// Reads an answer to its end and gives its status and how long it is, without keeping it.
pub fn drain(app: &App, key: &str, path: &str) -> (u16, u64) {
    let request = agent().get(app.url(path)).header("Authorization", format!("Bearer {key}"));
    let mut answer = request.call().expect("an answer");
    let bytes = std::io::copy(&mut answer.body_mut().as_reader(), &mut std::io::sink()).expect("a whole body");
    (answer.status().as_u16(), bytes)
}

/// Asks, and takes nothing of the answer.
pub fn ask(app: &App, key: &str, path: &str) -> TcpStream {
    let address = app.url("").trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n").expect("sent");
    stream
}

/// The largest that the server's own memory is while this looks on: what is not a part of some file.
#[derive(Default)]
pub struct Peak(AtomicU64);

impl Peak {
    pub fn watch<'s>(&'s self, scope: &'s Scope<'s, '_>, app: &App, over: &'s AtomicBool) {
        let process = app.process_id();
        scope.spawn(move || {
            while !over.load(Ordering::SeqCst) {
                self.look(process);
                park_timeout(Duration::from_millis(5));
            }
        });
    }

    /// Looks at a server once.
    pub fn look(&self, process: u32) {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the server is alive");
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("its memory");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number");
        self.0.fetch_max(kib << 10, Ordering::SeqCst);
    }

    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Waits until it has not grown for a second: whatever is under way stands still.
    pub fn stands_still(&self, app: &App) {
        let mut last = (0, Instant::now());
        app.until("nothing takes more memory", || {
            if self.bytes() > last.0 {
                last = (self.bytes(), Instant::now());
            }
            (last.1.elapsed() > Duration::from_secs(1)).then_some(())
        });
    }

    pub fn is_below(&self, most: u64) {
        let peak = self.bytes();
        println!("at most {} KiB of memory", peak >> 10);
        assert!(peak > 4 * MIB, "it was looked at");
        assert!(peak < most, "{} MiB of memory were taken", peak / MIB);
    }
}

/// Ends the watch, also where something else fails.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Does this again and again until it is over.
pub fn again<'s>(scope: &'s Scope<'s, '_>, over: &'s AtomicBool, times: usize, attack: &'s (impl Fn(usize) + Sync)) {
    for number in 0..times {
        scope.spawn(move || {
            while !over.load(Ordering::SeqCst) {
                attack(number);
            }
        });
    }
}

#[test]
fn all_sides_at_once_with_rows_as_wide_as_they_may_be() {
    let backups = tempfile::tempdir().expect("a folder");
    let backup =
        format!("[backup]\nevery = \"1s\"\nto = \"{}\"\n[quotas]\nuploads_at_once = 4\n", backups.path().display());
    let app = App::start(Setup { more: backup, ..Setup::default() });
    assert_eq!(app.post(OPERATOR, "/ops/v1/dispatch/pause").0, 200);
    let id = accepted(&app, &wide(1_000, "a"));
    app.until_status(&id, "queued");
    let files: Vec<_> = (0..4).map(|number| wide(1_500, &format!("b{number}-"))).collect();

    let (peak, over) = (Peak::default(), AtomicBool::new(false));
    let [pages, downloads, uploads, refused] = [(); 4].map(|()| AtomicUsize::new(0));
    let longest_page = AtomicU64::new(0);
    let told = |status: u16, done: &AtomicUsize| match status {
        200 | 202 => done.fetch_add(1, Ordering::SeqCst),
        429 => refused.fetch_add(1, Ordering::SeqCst),
        other => panic!("answered {other}"),
    };
    let again_and_again = |number: usize| {
        let path = format!("{UPLOAD}?allow_duplicate=true");
        told(app.upload_as(&app.key, &path, &GZIPPED, &files[number]).0, &uploads);
    };
    let page = |number: usize| {
        let (status, bytes) =
            drain(&app, &app.key, &format!("/v2/batches/{id}/rows?limit=1000&after={}", number * 100));
        longest_page.fetch_max(bytes, Ordering::SeqCst);
        told(status, &pages);
    };
    let download = |_| {
        told(drain(&app, &app.key, &format!("/v2/batches/{id}/results.csv?raw=true")).0, &downloads);
    };
    scope(|scope| {
        peak.watch(scope, &app, &over);
        again(scope, &over, 4, &again_and_again);
        again(scope, &over, 24, &page);
        again(scope, &over, 4, &download);
        let untaken: Vec<_> = (0..32)
            .flat_map(|_| [format!("/v2/batches/{id}/rows?limit=1000"), format!("/v2/batches/{id}/results.csv")])
            .map(|path| ask(&app, &app.key, &path))
            .collect();
        let begun = Instant::now();
        while begun.elapsed() < LASTS {
            assert_eq!(app.get(OPERATOR, "/livez").0, 200);
            park_timeout(Duration::from_millis(100));
        }
        drop(untaken);
        over.store(true, Ordering::SeqCst);
    });
    let counts = [pages, downloads, uploads, refused].map(AtomicUsize::into_inner);
    println!("{counts:?} pages, downloads, uploads, and answers that were refused");
    peak.is_below(MOST);
    assert!(longest_page.into_inner() < 4 * MIB, "a page was too long");
    assert!(app.get(OPERATOR, "/readyz").0 == 200, "{}", app.log());
    let taken = std::fs::read_dir(backups.path()).expect("a folder").count();
    assert!(taken > 0, "no backup was taken");
}
