//! The bucket goes away: while a file goes up, and while it is read back.

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    assert_each_row_once, batches, database, row_numbers,
    support::{
        app::{App, Setup, people},
        proxy::{Line, Proxy},
        s3::{BUCKET, S3Server, stored_files},
    },
    until_no_upload_is_left, wide_people,
};

const MEGABYTE: usize = 1 << 20;
/// Rows of a file of some megabytes.
const WIDE_ROWS: usize = 4_000;

/// An app that reaches its bucket through a line that can be cut.
pub struct World {
    pub app: App,
    pub line: Proxy,
    bucket: TempDir,
    _s3: S3Server,
}

impl World {
    pub fn start(setup: Setup) -> Self {
        let bucket = tempfile::tempdir().expect("a folder");
        let s3 = S3Server::start(bucket.path());
        let line = Proxy::start(s3.address);
        let settings = s3.settings();
        let more = format!(
            "[objects]\nkind = \"minio\"\nendpoint = \"http://{}\"\nbucket = \"{}\"\naccess_key = \"{}\"\n\
             secret_key = \"{}\"",
            line.address, settings.bucket, settings.access_key, settings.secret_key
        );
        std::fs::create_dir(bucket.path().join(BUCKET)).expect("a bucket");
        Self { app: App::start(Setup { more, ..setup }), line, bucket, _s3: s3 }
    }

    fn assert_upload_is_refused(&self, body: &str) {
        let (status, problem) = self.app.upload(&self.app.key, body);
        assert_eq!((status, &problem["code"]), (503, &"unavailable".into()), "{problem}");
        let detail = problem["detail"].as_str().expect("a sentence");
        assert!(detail.contains("nothing was kept") && detail.contains("again in a while"), "{detail}");
    }

    /// After the outage: nothing is left of the refused upload, and the same file is a batch that completes.
    fn assert_healed(&self, body: &str, rows: usize) {
        assert_eq!(batches(&self.app), 0);
        self.line.set(Line::Up);
        until_no_upload_is_left(&self.app);
        assert_eq!(self.stored(), 0, "nothing is stored of a refused upload");
        let id = self.app.accepted(body);
        assert_eq!(self.app.until_status(&id, "completed")["counts"]["completed"], rows);
        assert_each_row_once(&self.app, rows as u64);
    }

    /// How many stored files can be seen in the bucket.
    fn stored(&self) -> usize {
        stored_files(self.bucket.path()).len()
    }

    /// Where the bucket keeps the stored file of a batch.
    pub fn stored_file(&self, id: &str) -> PathBuf {
        self.bucket.path().join(BUCKET).join(format!("{id}.csv"))
    }

    /// The batch is not lost: it waits and says why.
    pub fn assert_extraction_waits(&self, id: &str) {
        let waiting = self.app.until("extraction waits for the bucket", || {
            Some(self.app.batch(id)).filter(|batch| batch["error"].is_object())
        });
        assert_eq!((&waiting["status"], &waiting["error"]["code"]), (&"pending".into(), &"file_unreachable".into()));
        let message = waiting["error"]["message"].as_str().expect("a sentence");
        assert!(message.contains("is not available") && message.contains("tried again"), "{message}");
    }
}

#[test]
fn a_bucket_that_is_down_refuses_an_upload_and_takes_it_later() {
    let world = World::start(Setup::default());
    world.line.set(Line::Down);
    world.assert_upload_is_refused(&people(5));
    world.assert_healed(&people(5), 5);
}

#[test]
fn a_bucket_that_goes_away_during_an_upload_refuses_it_and_takes_it_later() {
    let world = World::start(Setup::default());
    let body = wide_people(WIDE_ROWS);
    assert!(body.len() > 6 * MEGABYTE, "more than a part of a multipart upload");
    world.line.set(Line::UpFor(3 * MEGABYTE));
    world.assert_upload_is_refused(&body);
    world.assert_healed(&body, WIDE_ROWS);
}

#[test]
fn a_bucket_that_is_down_delays_an_extraction() {
    const ROWS: usize = 50;
    let world = World::start(Setup::default());
    world.line.set(Line::UpUntil(b"GET "));
    let id = world.app.accepted(people(ROWS));
    world.assert_extraction_waits(&id);

    world.line.set(Line::Up);
    let done = world.app.until_status(&id, "completed");
    assert_eq!((&done["counts"]["completed"], &done["error"]), (&ROWS.into(), &Value::Null));
    assert_eq!(row_numbers(&world.app, &id), (1..=ROWS as u64).collect::<Vec<_>>());
    assert_each_row_once(&world.app, ROWS as u64);
}

#[test]
fn a_bucket_that_goes_away_during_an_extraction_delays_it() {
    const ROWS: usize = 15_000;
    // The rows are looked at before they are worked: so many would take long.
    let world = World::start(Setup { dispatch: String::new(), ..Setup::default() });
    let body = people(ROWS);
    world.line.set(Line::DownloadsFor(body.len() / 10 * 9));
    let id = world.app.accepted(&body);
    world.assert_extraction_waits(&id);
    let extracted: u32 =
        database(&world.app).query_row("SELECT extracted FROM batches", [], |batch| batch.get(0)).expect("a batch");
    assert!((1..ROWS as u32).contains(&extracted), "it was cut between the first row and the last: {extracted}");

    world.line.set(Line::Up);
    let queued = world.app.until_status(&id, "queued");
    assert_eq!((&queued["counts"]["pending"], &queued["error"]), (&ROWS.into(), &Value::Null));
    let emails = world.app.rows(&id).into_iter().map(|row| row["data"]["email"].clone());
    assert!(emails.eq((1..=ROWS).map(|row| Value::from(format!("p{row}@mail.example")))), "exactly the file's rows");
}
