//! A disk without room: a small one of the test's own, that it fills and frees.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use dripfeed::simulator::SimulatorOptions;

use crate::{
    assert_each_row_once, batches,
    bucket::World,
    database, row_numbers,
    support::{
        app::{App, Setup, files, people},
        proxy::Line,
    },
    until_no_upload_is_left, wide_people,
};

/// Tells a test that it runs inside its namespace, and where its disk is.
const INSIDE: &str = "DRIPFEED_TEST_SMALL_DISK";
const DISK_SIZE: &str = "48m";
const MEGABYTE: usize = 1 << 20;
const WORKERS: usize = 8;

/// A file system of [`DISK_SIZE`] that only this test sees.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// An app that has everything on this disk.
    fn app(&self, setup: Setup) -> App {
        App::start(Setup { within: Some(self.0.clone()), ..setup })
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Leaves no more than so many bytes free.
    fn fill(&self, left: usize) {
        let mut ballast = File::create(self.ballast()).expect("a ballast file");
        let block = [0; 4096];
        let mut written = 0;
        let full = loop {
            match ballast.write(&block) {
                Ok(bytes) => written += bytes,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        ballast.set_len(written.checked_sub(left).expect("a disk with room") as u64).expect("made smaller");
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("removed");
    }
}

/// Runs `body` with a small disk: in a second process of this test, whose mounts nobody else sees and which are gone
/// with it. Needs root, or user namespaces.
fn with_small_disk(test: &str, body: impl FnOnce(&SmallDisk)) {
    if let Some(disk) = std::env::var_os(INSIDE) {
        return body(&SmallDisk(disk.into()));
    }
    let folder = tempfile::tempdir().expect("a folder to mount on");
    let privileges = [["--mount"].as_slice(), &["--user", "--map-root-user", "--mount"]];
    let mounts = |namespaces: &&[&str]| in_namespace(namespaces, folder.path(), Path::new("true"), "").success();
    let Some(namespaces) = privileges.into_iter().find(mounts) else {
        // Past the test harness, which would swallow it.
        let told = writeln!(std::io::stderr(), "SKIPPED {test}: this machine lets nobody here mount a small disk");
        return told.expect("told");
    };
    let myself = std::env::current_exe().expect("this test");
    assert!(in_namespace(namespaces, folder.path(), &myself, test).success(), "{test} on a small disk, see above");
}

/// Mounts the disk in new namespaces and runs one test of `program` there.
fn in_namespace(namespaces: &[&str], folder: &Path, program: &Path, test: &str) -> ExitStatus {
    let script = r#"mount -t tmpfs -o size="$0" tmpfs "$1" && exec "$2" --exact "$3" --nocapture"#;
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["sh", "-c", script, DISK_SIZE]).arg(folder).arg(program).arg(test);
    command.env(INSIDE, folder).status().expect("unshare, of util-linux")
}

#[test]
fn an_upload_that_finds_no_room_is_refused_and_leaves_nothing() {
    with_small_disk("disk::an_upload_that_finds_no_room_is_refused_and_leaves_nothing", |disk| {
        let app = disk.app(Setup::default());
        disk.fill(MEGABYTE);
        let (status, problem) = app.upload(&app.key, wide_people(2_000));
        assert_eq!((status, &problem["code"]), (507, &"disk_full".into()), "{problem}");
        let detail = problem["detail"].as_str().expect("a sentence");
        assert!(detail.contains("make room") && detail.contains("Nothing was kept"), "{detail}");
        assert_eq!(batches(&app), 0);
        until_no_upload_is_left(&app);
        assert_eq!(files(&app.data_dir().join("objects")), Vec::<PathBuf>::new());

        // Where not even the database has room the answer is the same.
        disk.free();
        disk.fill(0);
        let (status, problem) = app.upload(&app.key, people(3));
        assert_eq!((status, &problem["code"]), (507, &"disk_full".into()), "{problem}");

        disk.free();
        let id = app.accepted(people(3));
        assert_eq!(app.until_status(&id, "completed")["counts"]["completed"], 3);
        until_no_upload_is_left(&app);
    });
}

fn assert_refused_for_the_reserve(app: &App, body: &str) {
    let (status, problem) = app.upload(&app.key, body);
    assert_eq!((status, &problem["code"]), (507, &"disk_full".into()), "{problem}");
    let detail = problem["detail"].as_str().expect("a sentence");
    for told in ["There is no room for this file", "Nothing was kept", "dripfeed purge"] {
        assert!(detail.contains(told), "{told} in {detail}");
    }
    // How full the disk is concerns whoever runs it, and nobody who uploads.
    assert!(!detail.contains(|symbol: char| symbol.is_ascii_digit()), "{detail}");
    app.until("the log tells more", || app.log().contains("are kept back (storage.reserve)").then_some(()));
}

#[test]
fn the_reserve_refuses_uploads_and_is_there_for_the_rows_under_way() {
    const ROWS: usize = 1_000;
    with_small_disk("disk::the_reserve_refuses_uploads_and_is_there_for_the_rows_under_way", |disk| {
        let app = disk.app(Setup {
            storage: "reserve = \"16MiB\"".into(),
            dependency: "rate_per_second = 1000\nburst = 50\ntimeout = \"5s\"".into(),
            ..Setup::default()
        });
        let id = app.accepted(people(ROWS));
        app.until("some rows are done", || (app.batch(&id)["counts"]["completed"].as_u64() >= Some(10)).then_some(()));
        disk.fill(8 * MEGABYTE);
        assert_refused_for_the_reserve(&app, &people(3));
        let doctor = String::from_utf8(app.command(&["doctor"]).stdout).expect("text");
        let line = doctor.lines().find(|line| line.contains("storage.reserve")).expect("a line on the disk");
        assert!(line.starts_with("fail") && line.contains("uploads are refused"), "{line}");
        assert!(app.batch(&id)["counts"]["completed"].as_u64() < Some(ROWS as u64), "it is still under way");

        assert_eq!(app.until_status(&id, "completed")["counts"]["completed"], ROWS);
        assert_each_row_once(&app, ROWS as u64);
        assert_refused_for_the_reserve(&app, &people(3));
        disk.free();
        let id = app.accepted(people(3));
        assert_eq!(app.until_status(&id, "completed")["counts"]["completed"], 3);
        until_no_upload_is_left(&app);
    });
}

#[test]
fn rows_are_not_sent_while_what_is_left_is_for_the_outcomes_of_those_under_way() {
    const ROWS: usize = 1_000;
    with_small_disk("disk::rows_are_not_sent_while_what_is_left_is_for_the_outcomes_of_those_under_way", |disk| {
        let app = disk.app(Setup {
            storage: "reserve = \"24MiB\"".into(),
            dependency: "rate_per_second = 1000\nburst = 50\ntimeout = \"5s\"".into(),
            ..Setup::default()
        });
        let id = app.accepted(people(ROWS));
        app.until("some rows are done", || (app.batch(&id)["counts"]["completed"].as_u64() >= Some(10)).then_some(()));
        disk.fill(2 * MEGABYTE);
        let waiting = app.until("the others wait", || {
            let batch = app.batch(&id);
            batch["waiting_for"].as_str().is_some_and(|told| told.contains("for the outcomes")).then_some(batch)
        });
        let done = waiting["counts"]["completed"].as_u64().expect("a count");
        assert!(done < ROWS as u64 && waiting["counts"]["processing"] == 0, "those under way have ended: {waiting}");
        assert_each_row_once(&app, done);
        app.until("the log says so", || app.log().contains("dispatch.without_room").then_some(()));
        disk.free();
        assert_eq!(app.until_status(&id, "completed")["counts"]["completed"], ROWS);
        assert_each_row_once(&app, ROWS as u64);
    });
}

#[test]
fn an_upload_that_grows_into_the_reserve_is_refused_on_its_way() {
    with_small_disk("disk::an_upload_that_grows_into_the_reserve_is_refused_on_its_way", |disk| {
        let app = disk.app(Setup { storage: "reserve = \"16MiB\"".into(), ..Setup::default() });
        // Packed, nobody can tell how large it is.
        let body = wide_people(20_000);
        assert!(body.len() > 30 * MEGABYTE);
        let (status, problem) = app.upload_as(&app.key, UPLOAD, &GZIPPED, &gzipped(&body));
        assert_eq!((status, &problem["code"]), (507, &"disk_full".into()), "{problem}");
        until_no_upload_is_left(&app);
        assert_eq!(files(&app.data_dir().join("objects")), Vec::<PathBuf>::new());
        // What was promised to it is there for others.
        let id = app.accepted(people(3));
        app.until_status(&id, "completed");
    });
}

#[test]
fn an_extraction_waits_for_room_and_goes_on_when_there_is_some() {
    const ROWS: usize = 2_000;
    with_small_disk("disk::an_extraction_waits_for_room_and_goes_on_when_there_is_some", |disk| {
        let world = World::start(Setup { within: Some(disk.0.clone()), ..Setup::default() });
        let app = &world.app;
        world.line.set(Line::UpUntil(b"GET "));
        let id = app.accepted(wide_people(ROWS));
        world.assert_extraction_waits(&id);
        // The file could be read again, its rows would not fit.
        disk.fill(4 * MEGABYTE);
        world.line.set(Line::Up);
        let waiting = app.until("it waits for room", || {
            Some(app.batch(&id)).filter(|batch| batch["waiting_for"].as_str().is_some_and(|it| it.contains("room")))
        });
        assert_eq!((&waiting["status"], &waiting["estimate"]), (&"pending".into(), &serde_json::Value::Null));
        let told = waiting["waiting_for"].as_str().expect("a sentence");
        assert!(told.contains("room on the disk") && told.contains("dripfeed purge"), "{told}");
        assert!(!told.contains(|symbol: char| symbol.is_ascii_digit()), "{told}");
        app.until("the log says so", || app.log().contains("extraction waits for room").then_some(()));
        assert_refused_for_the_reserve(app, &people(2));

        disk.free();
        let done = app.until_status(&id, "completed");
        assert_eq!((&done["counts"]["completed"], &done["error"]), (&ROWS.into(), &serde_json::Value::Null));
        assert_eq!(row_numbers(app, &id), (1..=ROWS as u64).collect::<Vec<_>>());
        assert_each_row_once(app, ROWS as u64);
    });
}

/// Small as it comes, and large.
fn gzipped(body: &str) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(body.as_bytes()).expect("packed");
    packer.finish().expect("packed")
}

const UPLOAD: &str = "/v2/client/users/batch/invite";
const GZIPPED: [(&str, &str); 2] = [("Content-Type", "text/csv"), ("Content-Encoding", "gzip")];

#[test]
fn a_bomb_is_too_large_however_little_room_there_is_and_a_large_promise_takes_nobody_elses() {
    with_small_disk(
        "disk::a_bomb_is_too_large_however_little_room_there_is_and_a_large_promise_takes_nobody_elses",
        |disk| {
            let app = disk.app(Setup {
                storage: "reserve = \"8MiB\"".into(),
                more: "[workflows.invite]\nmax_bytes = \"4MB\"".into(),
                ..Setup::default()
            });
            disk.fill(14 * MEGABYTE);
            let bomb = gzipped(&wide_people(20_000));
            let (status, problem) = app.upload_as(&app.key, UPLOAD, &GZIPPED, &bomb);
            assert_eq!((status, &problem["code"]), (413, &"too_large".into()), "{problem}");

            // Forty gigabytes are announced, by as many as one client may send at once, and never come: no room is promised to them.
            let address = app.url("").trim_start_matches("http://").to_owned();
            let open = [(); 2].map(|()| {
                let mut liar = TcpStream::connect(&address).expect("a connection");
                let head = format!(
                    "POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: text/csv\r\n\
                     Content-Length: 40000000000\r\n\r\nemail,",
                    app.key
                );
                liar.write_all(head.as_bytes()).expect("sent");
                liar
            });
            let others = app.add_client("globex", None);
            let (status, batch) = app.upload(&others, people(3));
            assert_eq!(status, 202, "{batch}");
            for mut liar in open {
                let mut said = [0; 12];
                liar.read_exact(&mut said).expect("an answer");
                assert_eq!(&said, b"HTTP/1.1 413");
            }
            until_no_upload_is_left(&app);
        },
    );
}

#[cfg(feature = "failpoints")]
#[test]
fn a_batch_without_room_lets_others_pass() {
    with_small_disk("disk::a_batch_without_room_lets_others_pass", |disk| {
        let mut app = App::prepared(Setup { within: Some(disk.0.clone()), ..Setup::default() });
        let globex = app.add_client("globex", None);
        // Long enough for both to be there, and the disk to be filled, before the next is chosen.
        app.launch(&[("FAILPOINTS", "extract.claimed=1*sleep(4000)")]);
        assert!(app.listens());
        app.accepted(people(1));
        let large = app.accepted(wide_people(2_000));
        let (status, small) = app.upload(&globex, people(3));
        assert_eq!(status, 202, "{small}");
        disk.fill(5 * MEGABYTE);
        let small = small["id"].as_str().expect("an id");
        app.until("the other client's is done", || {
            (app.batch_of(&globex, small)["status"] == "completed").then_some(())
        });
        let waiting = app.batch(&large);
        assert_eq!(waiting["status"], "pending", "{waiting}");
        assert!(waiting["waiting_for"].as_str().is_some_and(|told| told.contains("room")), "{waiting}");
        disk.free();
        app.until_status(&large, "completed");
    });
}

#[cfg(feature = "failpoints")]
#[test]
fn an_extraction_that_runs_out_of_room_stops_where_it_is_and_goes_on_from_there() {
    const ROWS: usize = 25_000;
    with_small_disk("disk::an_extraction_that_runs_out_of_room_stops_where_it_is_and_goes_on_from_there", |disk| {
        let mut app =
            App::prepared(Setup { dispatch: String::new(), within: Some(disk.0.clone()), ..Setup::default() });
        // Long enough for the disk to be filled behind the first rows.
        app.launch(&[("FAILPOINTS", "extract.between_chunks=1*sleep(5000)")]);
        assert!(app.listens());
        let id = app.accepted(people(ROWS));
        let extracted = || -> i64 {
            database(&app).query_row("SELECT extracted FROM batches", [], |row| row.get(0)).expect("a batch")
        };
        app.until("the first rows are there", || (extracted() > 0).then_some(()));
        disk.fill(MEGABYTE);
        let stopped = app.until("it stops", || Some(app.batch(&id)).filter(|batch| batch["error"].is_object()));
        assert_eq!((&stopped["status"], &stopped["error"]["code"]), (&"pending".into(), &"disk_full".into()));
        let message = stopped["error"]["message"].as_str().expect("a sentence");
        assert!(message.contains("no room for its rows") && message.contains("tried again"), "{message}");
        assert!((1..ROWS as i64).contains(&extracted()), "it is in the middle: {}", extracted());

        disk.free();
        let queued = app.until_status(&id, "queued");
        assert_eq!((&queued["counts"]["pending"], &queued["error"]), (&ROWS.into(), &serde_json::Value::Null));
        assert_eq!(row_numbers(&app, &id), (1..=ROWS as u64).collect::<Vec<_>>());
    });
}

/// Waits until every claim on a row has expired, and settles are still tried after that.
fn until_claims_have_lapsed(app: &App) {
    let database = database(app);
    let held = "SELECT count(*) FROM rows WHERE status = 'processing' AND claim_expires_at > unixepoch('now') * 1000";
    app.until("every claim has expired", || {
        let held: i64 = database.query_row(held, [], |row| row.get(0)).expect("counted");
        (held == 0).then_some(())
    });
    let refused = || app.log().matches("a settle was refused").count();
    let before = refused();
    app.until("settles are still tried", || (refused() > before + WORKERS).then_some(()));
}

#[test]
fn outcomes_that_find_no_room_are_kept_until_there_is_some() {
    // Enough for some to be under way when the disk is full, however fast it goes.
    const ROWS: usize = 2_000;
    with_small_disk("disk::outcomes_that_find_no_room_are_kept_until_there_is_some", |disk| {
        let app = disk.app(Setup {
            // Nothing is kept back, so that rows are sent until the disk is full.
            storage: "reserve = \"0B\"".into(),
            // Claims expire while the disk is full, and nobody but their workers could end them.
            workers: format!("under_way = {WORKERS}\nclaim_ttl = \"1s\"\nauto_rescue = false"),
            dependency: "rate_per_second = 2000\nburst = 50\ntimeout = \"1s\"".into(),
            simulator: SimulatorOptions { latency: Duration::from_millis(20), ..SimulatorOptions::default() },
            ..Setup::default()
        });
        let id = app.accepted(people(ROWS));
        app.until("some rows are done", || (app.batch(&id)["counts"]["completed"].as_u64() >= Some(10)).then_some(()));
        disk.fill(0);
        until_claims_have_lapsed(&app);
        assert_eq!(app.batch(&id)["status"], "queued", "reading goes on");
        let told = app.batch(&id)["waiting_for"].as_str().map(str::to_owned).expect("a sentence");
        assert!(told.starts_with("room on the disk") && told.contains("dripfeed purge"), "{told}");

        disk.free();
        assert_eq!(app.until_status(&id, "completed")["counts"]["completed"], ROWS);
        assert_each_row_once(&app, ROWS as u64);
    });
}

#[test]
fn a_backup_that_would_find_no_room_is_not_begun_and_is_taken_when_there_is_some() {
    with_small_disk("disk::a_backup_that_would_find_no_room_is_not_begun_and_is_taken_when_there_is_some", |disk| {
        let shelf = disk.0.join("shelf");
        let backup = format!("[backup]\nevery = \"1s\"\nto = \"{}\"", shelf.display());
        let mut app = disk.app(Setup { more: backup, ..Setup::default() });
        let backups = |app: &App, condition: &str| -> i64 {
            let sql = format!("SELECT count(*) FROM backups WHERE {condition}");
            database(app).query_row(&sql, [], |row| row.get(0)).expect("counted")
        };
        app.until("one is taken", || (backups(&app, "finished_at IS NOT NULL") > 0).then_some(()));
        app.terminate();
        disk.fill(2 * MEGABYTE);
        app.serve();
        app.until("it is told what is needed, where", || {
            let log = app.log();
            let told = log.lines().find(|line| line.contains("backup.failed"))?;
            assert!(told.contains("a backup needs") && told.contains("make room there"), "{told}");
            Some(())
        });
        assert_eq!(backups(&app, "finished_at IS NULL"), 0, "it was not even begun");
        let before = backups(&app, "finished_at IS NOT NULL");
        disk.free();
        app.until("it is taken", || (backups(&app, "finished_at IS NOT NULL") > before).then_some(()));
        let id = app.accepted(people(3));
        app.until_status(&id, "completed");
    });
}
