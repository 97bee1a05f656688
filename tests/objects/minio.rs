//! What only MinIO itself can show: buckets that keep versions, buckets with a lock, and the whole way through a server.

use std::{io::Write, path::Path};

use dripfeed::objects::{Keeping, ObjectError, Objects};
use minio::s3::{
    MinioClient, MinioClientBuilder,
    builders::VersioningStatus,
    creds::StaticProvider,
    http::BaseUrl,
    types::{ObjectLockConfig, RetentionMode, S3Api},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{MIB, NAME, bytes, collect_files};
use crate::support::{
    app::{App, OPERATOR, Setup, agent, people},
    proxy::{Line, Proxy},
    s3::{BUCKET, S3Server, is_minio, stored_files},
};

/// A MinIO with a bucket, and a client of its own.
struct World {
    root: TempDir,
    server: S3Server,
    client: MinioClient,
    runtime: Runtime,
}

impl World {
    /// `None`, and said, where there is no MinIO.
    fn start(test: &str) -> Option<Self> {
        if !is_minio() {
            // Past the test harness, which would swallow it.
            let told = writeln!(std::io::stderr(), "SKIPPED {test}: it needs MinIO (tests/run --with-minio)");
            told.expect("told");
            return None;
        }
        let root = TempDir::new().expect("a folder");
        let server = S3Server::start(root.path());
        let settings = server.settings();
        let endpoint: BaseUrl = settings.endpoint.parse().expect("a URL");
        let credentials = StaticProvider::new(&settings.access_key, &settings.secret_key, None);
        let client = MinioClientBuilder::new(endpoint).provider(Some(credentials)).build().expect("a client");
        Some(Self { root, server, client, runtime: Runtime::new().expect("a runtime") })
    }

    fn make_bucket(&self, with_lock: bool) {
        let made = async { self.client.create_bucket(BUCKET)?.object_lock(with_lock).build().send().await };
        self.runtime.block_on(made).expect("a bucket");
    }

    fn version(&self) {
        let versioned = async {
            let request = self.client.put_bucket_versioning(BUCKET, VersioningStatus::Enabled)?;
            request.build().send().await
        };
        self.runtime.block_on(versioned).expect("versions");
    }

    /// From here on nothing that is stored can be deleted for a day.
    fn lock(&self) {
        let config = ObjectLockConfig::new(RetentionMode::COMPLIANCE, Some(1), None).expect("a retention");
        let locked = async {
            let request = self.client.put_object_lock_config(BUCKET)?;
            request.config(config).build().send().await
        };
        self.runtime.block_on(locked).expect("a lock");
    }

    fn objects(&self) -> Objects {
        Objects::minio(&self.server.settings(), self.runtime.handle().clone()).expect("settings that can be used")
    }

    /// Everything of the bucket that is on the disk, and what of unfinished uploads is.
    fn left(&self) -> Vec<std::path::PathBuf> {
        let mut files = Vec::new();
        for folder in [BUCKET, ".minio.sys/multipart"] {
            collect_files(&self.root.path().join(folder), &mut files);
        }
        files
    }

    fn app(&self, endpoint: &str, setup: Setup) -> App {
        let settings = self.server.settings();
        let more = format!(
            "[objects]\nkind = \"minio\"\nendpoint = \"{endpoint}\"\nbucket = \"{}\"\naccess_key = \"{}\"\n\
             secret_key = \"{}\"",
            settings.bucket, settings.access_key, settings.secret_key
        );
        App::start(Setup { more, ..setup })
    }
}

fn put(objects: &Objects, content: &[u8]) -> Result<u64, ObjectError> {
    let mut writer = objects.create(NAME)?;
    writer.write_all(content)?;
    writer.finish()
}

fn delete(app: &App, id: &str) {
    let request = agent().delete(app.url(&format!("/v2/batches/{id}")));
    let answer = request.header("Authorization", format!("Bearer {}", app.key)).call().expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
}

fn deletions(app: &App) -> usize {
    let (status, overview) = app.get(OPERATOR, "/ops/v1/overview");
    assert_eq!(status, 200, "{overview}");
    overview["deletions"].as_array().expect("a list").len()
}

fn results(app: &App, id: &str) -> String {
    let (status, text) = app.get(&app.key, &format!("/v2/batches/{id}/results.csv"));
    assert_eq!(status, 200, "{text}");
    text.as_str().expect("a CSV").to_owned()
}

#[test]
fn of_a_deleted_object_no_version_is_left() {
    let Some(world) = World::start("of_a_deleted_object_no_version_is_left") else { return };
    world.make_bucket(false);
    world.version();
    let objects = world.objects();
    assert_eq!(objects.keeping(), Keeping { versions: true, retention: None });
    for round in 0..2 {
        for length in [3, 6 * MIB] {
            put(&objects, &bytes(length)).expect("stored");
        }
        // One that begins alike stays.
        let mut other = objects.create(&format!("{NAME}.other")).expect("a writer");
        other.write_all(b"other").expect("written");
        other.finish().expect("stored");
        assert!(world.left().len() > 2);
        objects.delete(NAME).expect("deleted");
        let left = world.left();
        assert!(left.iter().all(|file| file.to_string_lossy().contains(".other")), "round {round}: {left:?}");
        objects.delete(&format!("{NAME}.other")).expect("deleted");
        objects.delete(NAME).expect("that there is none is fine");
        assert_eq!(world.left(), Vec::<std::path::PathBuf>::new(), "round {round}");
    }
}

#[test]
fn the_whole_way_through_a_server_leaves_nothing_in_a_bucket_with_versions() {
    const ROWS: usize = 300;
    let Some(world) = World::start("the_whole_way_through_a_server_leaves_nothing_in_a_bucket_with_versions") else {
        return;
    };
    // The server makes its bucket itself.
    let app = world.app(&world.server.settings().endpoint, Setup::default());
    world.version();
    let (status, _) = app.upload(&app.key, "email,first_name\nno");
    assert_eq!(status, 422);
    let ids = [app.accepted(people(ROWS)), app.accepted(people(2))];
    for id in &ids {
        app.until_status(id, "completed");
    }
    assert_eq!(results(&app, &ids[0]).lines().count(), ROWS + 1);
    let names = ids.iter().map(|id| format!("{id}.csv")).collect();
    assert_eq!(stored_files(world.root.path()), names, "of the refused upload nothing is left");
    let doctor = String::from_utf8(app.command(&["doctor"]).stdout).expect("text");
    let line = doctor.lines().find(|line| line.contains(" files ")).expect("a line on the files");
    assert!(line.starts_with("warn") && line.contains("keeps versions"), "{line}");

    delete(&app, &ids[0]);
    app.until("the deletion is carried out", || (deletions(&app) == 0).then_some(()));
    assert_eq!(stored_files(world.root.path()).into_iter().collect::<Vec<_>>(), [format!("{}.csv", ids[1])]);
    assert_eq!(results(&app, &ids[1]).lines().count(), 3);
}

#[test]
fn a_line_that_breaks_in_the_middle_of_an_upload_leaves_no_object_and_the_next_one_goes_through() {
    let Some(world) = World::start("a_line_that_breaks_in_the_middle_of_an_upload_leaves_no_object") else { return };
    let line = Proxy::start(world.server.address);
    let app = world.app(&format!("http://{}", line.address), Setup::default());
    let wide = "n".repeat(900);
    let mut body = String::from("email,first_name,last_name,phone,postcode,house_number\n");
    body.extend((1..=8_000).map(|row| format!("w{row}@mail.example,{wide},{wide},,AB1 2CD,7\n")));
    line.set(Line::UpFor(8 * MIB));
    let (status, problem) = app.upload(&app.key, &body);
    assert_eq!((status, &problem["code"]), (503, &"unavailable".into()), "{problem}");
    line.set(Line::Up);
    // Over a broken line no upload can be taken back: its parts, sealed under a key that nobody has any more, are MinIO's
    // to clear away, a day later. What can be seen in the bucket is nothing.
    let parts = world.left();
    assert!(parts.iter().all(|file| file.to_string_lossy().contains(".minio.sys/multipart")), "{parts:?}");
    let id = app.accepted(&body);
    app.until_status(&id, "queued");
    assert_eq!(stored_files(world.root.path()).into_iter().collect::<Vec<_>>(), [format!("{id}.csv")]);
    let after = world.left();
    assert!(parts.iter().all(|file| after.contains(file)), "the next upload left parts of its own, or none: {after:?}");
}

#[test]
fn a_bucket_with_a_lock_keeps_its_files_and_that_is_said_and_not_asked_for_ever() {
    let Some(world) = World::start("a_bucket_with_a_lock_keeps_its_files_and_that_is_said_and_not_asked_for_ever")
    else {
        return;
    };
    world.make_bucket(true);
    let app = world.app(&world.server.settings().endpoint, Setup::default());
    let before = app.accepted(people(4));
    world.lock();
    let ids = [app.accepted(people(2)), app.accepted(people(3))];
    for id in ids.iter().chain([&before]) {
        app.until_status(id, "completed");
    }
    let doctor = String::from_utf8(app.command(&["doctor"]).stdout).expect("text");
    let line = doctor.lines().find(|line| line.contains(" files ")).expect("a line on the files");
    assert!(line.starts_with("warn") && line.contains("1 days (object lock)"), "{line}");

    delete(&app, &ids[0]);
    delete(&app, &ids[1]);
    // One that can go is not held up by those that cannot.
    delete(&app, &before);
    let refusals = |id: &str| {
        let log = app.log();
        log.lines().filter(|line| line.contains("it is not given up") && line.contains(id)).count()
    };
    app.until("the one without a lock is gone", || (deletions(&app) == 2).then_some(()));
    app.until("both refusals are said", || ids.iter().all(|id| refusals(id) > 0).then_some(()));
    let log = app.log();
    let told = log.lines().find(|line| line.contains("it is not given up")).expect("a line");
    assert!(told.contains("without object lock") && told.contains("\"ERROR\""), "{told}");
    // Many looks later each was asked for once, and other files still go.
    let (refused_before, other) = (ids.iter().map(|id| refusals(id)).sum::<usize>(), app.accepted(people(1)));
    app.until_status(&other, "completed");
    delete(&app, &other);
    app.until("the next one is refused too", || (refusals(&other) > 0).then_some(()));
    assert_eq!((refused_before, ids.iter().map(|id| refusals(id)).sum::<usize>()), (2, 2));
    assert!(Path::new(&world.root.path().join(BUCKET).join(format!("{}.csv", ids[0]))).exists());
}
