//! Objects are there whole or not at all: in a folder, and in a bucket behind a real S3 server; with
//! `tests/run --with-minio` behind MinIO itself.

#[path = "../support/mod.rs"]
mod support;

mod minio;

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use dripfeed::objects::{MinioSettings, ObjectError, Objects};
use support::s3::{BUCKET, S3Server, is_minio};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const MIB: usize = 1024 * 1024;
const NAME: &str = "batches/bat_1.csv";
const DEADLINE: Duration = Duration::from_secs(20);

/// A store, and the folder in which its bytes can be seen.
struct Fixture {
    objects: Objects,
    root: TempDir,
    server: Option<S3Server>,
    _runtime: Option<Runtime>,
}

impl Fixture {
    fn local() -> Self {
        let root = TempDir::new().expect("a folder");
        let objects = Objects::local(root.path().join(BUCKET)).expect("a new folder");
        Self { objects, root, server: None, _runtime: None }
    }

    fn minio() -> Self {
        Self::minio_with(|settings| settings)
    }

    fn minio_with(change: impl FnOnce(MinioSettings) -> MinioSettings) -> Self {
        let root = TempDir::new().expect("a folder");
        let server = S3Server::start(root.path());
        let runtime = Runtime::new().expect("a runtime");
        let objects =
            Objects::minio(&change(server.settings()), runtime.handle().clone()).expect("settings that can be used");
        Self { objects, root, server: Some(server), _runtime: Some(runtime) }
    }

    /// Both stores, ready to be used.
    fn both() -> [Self; 2] {
        [Self::local(), Self::minio()].map(|fixture| {
            fixture.objects.check().expect("a store that works");
            fixture
        })
    }

    fn put(&self, bytes: &[u8]) -> Result<u64, ObjectError> {
        let mut writer = self.objects.create(NAME)?;
        writer.write_all(bytes)?;
        writer.finish()
    }

    fn get(&self) -> Result<Vec<u8>, ObjectError> {
        let mut bytes = Vec::new();
        self.objects.open(NAME)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Every file of the store, hidden ones and unfinished ones too; of what MinIO keeps for itself only the unfinished.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect_files(self.root.path(), &mut files);
        if self.server.is_some() && is_minio() {
            let folders = [self.root.path().join(BUCKET), self.root.path().join(".minio.sys/multipart")];
            files.retain(|file| folders.iter().any(|folder| file.starts_with(folder)));
        }
        files.sort();
        files
    }

    fn wait_until(&self, what: &str, holds: impl Fn(&[PathBuf]) -> bool) {
        let begun = Instant::now();
        while !holds(&self.files()) {
            assert!(begun.elapsed() < DEADLINE, "waited in vain until {what}: {:?}", self.files());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { collect_files(&path, files) } else { files.push(path) }
    }
}

/// Bytes in which no piece is like another.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn is_first_part(path: &Path) -> bool {
    let path = path.to_string_lossy();
    path.ends_with(".part-1") || path.ends_with("/part.1")
}

#[test]
fn objects_come_back_whatever_their_length() {
    for fixture in Fixture::both() {
        // Around the size of a part, and of the pieces that a part is made of.
        for length in [0, 1, 256 * 1024, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 10 * MIB, 20_000_000] {
            let content = bytes(length);
            assert_eq!(fixture.put(&content).expect("a store that works"), length as u64, "{}", fixture.objects);
            assert!(fixture.get().expect("just stored") == content, "{length} bytes in {}", fixture.objects);
        }
    }
}

#[test]
fn empty_writes_end_nothing() {
    for fixture in Fixture::both() {
        let mut writer = fixture.objects.create(NAME).expect("a store that works");
        for piece in [b"".as_slice(), b"one", b"", b"two", b""] {
            writer.write_all(piece).expect("a store that works");
            writer.flush().expect("a store that works");
        }
        assert_eq!(writer.finish().expect("a store that works"), 6);
        assert_eq!(fixture.get().expect("just stored"), b"onetwo");
    }
}

#[test]
fn an_object_is_visible_when_it_is_finished_and_not_before() {
    for fixture in Fixture::both() {
        let mut writer = fixture.objects.create(NAME).expect("a store that works");
        writer.write_all(&bytes(6 * MIB)).expect("a store that works");
        assert!(matches!(fixture.get(), Err(ObjectError::NotFound { .. })), "{}", fixture.objects);
        writer.finish().expect("a store that works");
        assert_eq!(fixture.get().expect("finished").len(), 6 * MIB);
    }
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing_behind() {
    for fixture in Fixture::both() {
        for length in [3, 12 * MIB] {
            let before = fixture.files();
            let mut writer = fixture.objects.create(NAME).expect("a store that works");
            writer.write_all(&bytes(length)).expect("a store that works");
            if fixture.server.is_some() && length > 5 * MIB {
                fixture.wait_until("a part is stored", |files| files.iter().any(|path| is_first_part(path)));
            }
            drop(writer);
            fixture.wait_until("all is as before", |files| files == before);
        }
    }
}

#[test]
fn a_dropped_writer_leaves_the_object_that_was_there() {
    for fixture in Fixture::both() {
        fixture.put(b"the first").expect("a store that works");
        let mut writer = fixture.objects.create(NAME).expect("a store that works");
        writer.write_all(b"the second").expect("a store that works");
        drop(writer);
        assert_eq!(fixture.get().expect("still there"), b"the first");
        fixture.put(b"the third").expect("a store that works");
        assert_eq!(fixture.get().expect("replaced"), b"the third");
    }
}

#[test]
fn deleting_twice_is_fine_and_what_is_gone_is_not_found() {
    for fixture in Fixture::both() {
        fixture.put(b"x").expect("a store that works");
        for _ in 0..2 {
            fixture.objects.delete(NAME).expect("gone, or gone already");
            let error = fixture.get().expect_err("gone");
            assert!(matches!(error, ObjectError::NotFound { .. }) && !error.is_transient(), "{error}");
        }
    }
}

#[test]
fn names_are_listed_by_how_they_begin_however_many_there_are() {
    for fixture in Fixture::both() {
        let put = |name: &str| {
            let mut writer = fixture.objects.create(name).expect("a name");
            writer.write_all(b"x").expect("taken");
            writer.finish().expect("stored");
        };
        // More than a store tells in one answer.
        let mut names: Vec<String> = (0..1_100).map(|number| format!("kept/{number:04}/part")).collect();
        names.iter().for_each(|name| put(name));
        put("kept.but/not/so");
        put("other");
        assert_eq!(fixture.objects.names("kept/").expect("listed"), names);
        assert_eq!(fixture.objects.names("kept/0017/").expect("listed"), [names.swap_remove(17)]);
        assert_eq!(fixture.objects.names("nothing/").expect("listed"), Vec::<String>::new());
        assert_eq!(fixture.objects.names("").expect("listed").len(), 1_102);
        // What is being written is none yet.
        let writer = fixture.objects.create("kept/unfinished").expect("a name");
        assert_eq!(fixture.objects.names("kept/u").expect("listed"), Vec::<String>::new());
        drop(writer);
    }
}

#[test]
fn names_lead_nowhere_else() {
    for fixture in Fixture::both() {
        for name in ["../x", "/etc/passwd", ".unfinished/x", ""] {
            assert!(matches!(fixture.objects.create(name), Err(ObjectError::BadName)), "{name}");
            assert!(matches!(fixture.objects.open(name), Err(ObjectError::BadName)), "{name}");
            assert!(matches!(fixture.objects.delete(name), Err(ObjectError::BadName)), "{name}");
        }
    }
}

#[test]
fn checking_twice_finds_the_bucket_that_the_first_time_made() {
    let fixture = Fixture::minio();
    assert!(!fixture.root.path().join(BUCKET).exists());
    for _ in 0..2 {
        fixture.objects.check().expect("a store that works");
        assert!(fixture.root.path().join(BUCKET).exists());
    }
}

#[test]
fn without_its_bucket_the_store_says_what_to_do() {
    // The one call for which the test's server asks whether the bucket is there.
    let error = Fixture::minio().objects.delete(NAME).expect_err("no bucket");
    assert!(!error.is_transient());
    assert!(error.to_string().contains("make the bucket"), "{error}");
}

#[test]
fn a_wrong_secret_is_refused_with_where_to_look() {
    let fixture = Fixture::minio_with(|settings| MinioSettings { secret_key: "WRONG-SECRET".into(), ..settings });
    let errors = [fixture.objects.check().expect_err("refused"), fixture.put(b"x").expect_err("refused")];
    for error in errors {
        assert!(matches!(error, ObjectError::Refused { .. }) && !error.is_transient(), "{error:?}");
        assert!(error.to_string().contains("secret_key under [objects]"), "{error}");
        assert!(!format!("{error} {error:?}").contains("WRONG"), "{error:?}");
    }
}

#[test]
fn a_server_that_goes_away_during_an_upload_is_a_transient_error_and_nothing_is_visible() {
    let mut fixture = Fixture::minio();
    fixture.objects.check().expect("a store that works");
    let mut writer = fixture.objects.create(NAME).expect("a store that works");
    writer.write_all(&bytes(7 * MIB)).expect("a store that works");
    fixture.wait_until("a part is stored", |files| files.iter().any(|path| is_first_part(path)));
    fixture.server = None;
    let rest = bytes(20 * MIB);
    let error = match writer.write_all(&rest) {
        Ok(()) => writer.finish().expect_err("nobody is there"),
        Err(error) => {
            // One who does not stop at the first error does not get through either.
            assert!(writer.write_all(&rest).is_err());
            ObjectError::from(error)
        }
    };
    assert!(error.is_transient(), "{error}");
    assert!(!fixture.root.path().join(BUCKET).join(NAME).exists());
    for error in [fixture.objects.check().expect_err("nobody is there"), fixture.get().expect_err("nobody is there")] {
        assert!(error.is_transient() && error.to_string().contains("Connection refused"), "{error}");
    }
}

#[test]
fn a_server_that_goes_away_during_a_download_is_a_transient_error() {
    let mut fixture = Fixture::minio();
    fixture.objects.check().expect("a store that works");
    fixture.put(&bytes(50 * MIB)).expect("a store that works");
    let mut reader = fixture.objects.open(NAME).expect("just stored");
    let mut some = [0; 100];
    reader.read_exact(&mut some).expect("the beginning");
    fixture.server = None;
    let error = ObjectError::from(reader.read_to_end(&mut Vec::new()).expect_err("not to the end"));
    assert!(error.is_transient(), "{error}");
}

#[test]
fn sweeping_removes_what_a_crash_left_and_no_object() {
    let fixture = Fixture::local();
    fixture.put(b"x").expect("a store that works");
    let mut writer = fixture.objects.create("batches/bat_2.csv").expect("a store that works");
    writer.write_all(b"half").expect("a store that works");
    // As a process does that is killed: no destructor runs.
    std::mem::forget(writer);
    assert_eq!(fixture.objects.sweep().expect("a store that works"), 1);
    assert_eq!(fixture.objects.sweep().expect("a store that works"), 0);
    assert_eq!(fixture.get().expect("untouched"), b"x");
    assert_eq!(fixture.files().len(), 1);
}

#[test]
fn files_and_folders_are_their_users_own() {
    let fixture = Fixture::local();
    fixture.put(b"x").expect("a store that works");
    let folder = fixture.root.path().join(BUCKET);
    for (path, mode) in [(folder.clone(), 0o700), (folder.join("batches"), 0o700), (folder.join(NAME), 0o600)] {
        let found = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(found & 0o777, mode, "{}", path.display());
    }
}
