//! Who has the data folder, or another account on the machine: what a guess tells, who may open what, who can hold the lock.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::{
    app::{App, OPERATOR, Setup, files},
    server::{Server, status},
};

/// Another account than the one that tests run as.
const NOBODY: u32 = 65_534;
const FILE: &str = "email,first_name,last_name,phone,postcode,house_number\n\
                    ada@mail.example,Ada,Lovelace,07700 900123,AB1 2CD,12\n";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file of the data folder that holds this.
fn found_in(app: &App, what: &[u8]) -> Option<String> {
    let holds = |bytes: &[u8]| bytes.windows(what.len()).any(|window| window.eq_ignore_ascii_case(what));
    let mut files = files(&app.data_dir()).into_iter();
    files.find(|path| fs::read(path).is_ok_and(|bytes| holds(&bytes))).map(|path| path.display().to_string())
}

#[test]
fn a_guess_at_a_file_is_not_confirmed_by_the_database() {
    let app = App::start(Setup::default());
    let globex = app.add_client("globex", None);
    let id = app.accepted(FILE);
    assert_eq!(app.upload(&globex, FILE).0, 202);
    app.until_status(&id, "completed");
    // Whoever knows all of a row but the telephone number has a million files to try, and their hashes in two seconds.
    let guess: [u8; 32] = Sha256::digest(FILE.as_bytes()).into();
    for written in [guess.to_vec(), hex(&guess).into_bytes()] {
        assert_eq!(found_in(&app, &written), None);
    }
    let database = rusqlite::Connection::open(app.data_dir().join("dripfeed.db")).expect("the database");
    let sql = "SELECT count(DISTINCT file_digest) FROM batches";
    let digests: i64 = database.query_row(sql, [], |row| row.get(0)).expect("a number");
    assert_eq!(digests, 2, "nor does it tell that two clients have the same file");
    // The client's own: what the API tells, and that the same file is known again.
    assert_eq!(app.batch(&id)["file"]["sha256"], json!(hex(&guess)));
    let (status, again) = app.upload(&app.key, FILE);
    assert_eq!((status, &again["code"]), (409, &json!("duplicate_file")), "{again}");
}

#[test]
fn a_webhooks_address_is_sealed_and_shown_without_what_is_behind_its_host() {
    let receiver = Server::start(|_| status(204));
    let app = App::start(Setup::default());
    let url = format!("{}/services/T0HUSH/B0HUSH?token=hushhush", receiver.url());
    assert!(app.command(&["client", "webhook", "acme", "--url", &url]).status.success());
    let id = app.accepted(FILE);
    app.until_status(&id, "completed");
    app.until("it is delivered", || receiver.received().pop());
    for part in ["T0HUSH", "hushhush", "/services/"] {
        assert_eq!(found_in(&app, part.as_bytes()), None, "{part}");
        assert!(!app.log().contains(part), "{part}");
    }
    let (_, shown) = app.get(OPERATOR, "/ops/v1/clients/acme/webhook");
    assert_eq!(shown["url"], json!(format!("{}/…", receiver.url())));
}

/// What others than the owner may open below a folder, the folder itself included.
fn open_to_others(folder: &Path) -> Vec<String> {
    let mut open = Vec::new();
    let mut folders = vec![folder.to_owned()];
    let mut look = |path: &Path| {
        let mode = fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            open.push(format!("{} {mode:04o}", path.display()));
        }
    };
    while let Some(folder) = folders.pop() {
        look(&folder);
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { look(&path) }
        }
    }
    open
}

#[test]
fn nobody_else_opens_anything_that_we_made_whatever_the_umask() {
    let mut app = App::prepared(Setup::default());
    fs::remove_dir_all(app.data_dir()).expect("as if it had never run");
    let backup = app.folder.path().join("backup");
    app.launch_by("umask 000; exec \"$0\" \"$@\"");
    assert!(app.listens(), "{}", app.log());
    app.key = app.add_client("umbrella", None);
    let id = app.accepted(FILE);
    app.until_status(&id, "completed");
    let mut taken = Command::new("sh");
    taken.args(["-c", "umask 000; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_dripfeed"), "--config"]);
    taken.arg(app.folder.path().join("dripfeed.toml")).arg("backup").arg(&backup);
    assert!(taken.status().expect("the binary").success());
    let made: Vec<_> = files(&app.data_dir()).iter().filter_map(|path| Some(path.file_name()?.to_owned())).collect();
    for name in ["dripfeed.db", "dripfeed.db-wal", "dripfeed.db-shm", "serve.lock"] {
        assert!(made.iter().any(|made| made == name), "{name} in {made:?}");
    }
    assert_eq!(open_to_others(&app.data_dir()), Vec::<String>::new());
    assert_eq!(open_to_others(&backup), Vec::<String>::new());

    // What an older version, or somebody who copied it, left open is shut by the next start.
    app.terminate();
    for path in files(&app.data_dir()) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("a mode");
    }
    fs::set_permissions(app.data_dir(), fs::Permissions::from_mode(0o777)).expect("a mode");
    app.serve();
    let mode = |name: &str| fs::metadata(app.data_dir().join(name)).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("dripfeed.db"), mode("serve.lock")), (0o700, 0o600, 0o600));
}

#[test]
fn nobody_else_holds_the_lock_or_the_database() {
    let mut app = App::prepared(Setup::default());
    app.serve();
    app.terminate();
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "SKIPPED: the attempts of another account, which only root can make; the modes are looked at elsewhere"
        );
        return;
    }
    // Everything above the data folder is open, as in a home or below /var/lib.
    fs::set_permissions(app.folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    for name in ["serve.lock", "dripfeed.db"] {
        let path = app.data_dir().join(name);
        let attempt = |path: &Path| {
            let mut held = Command::new("flock");
            held.arg("--nonblock").arg(path).arg("true").uid(NOBODY).gid(NOBODY);
            held.output().expect("util-linux").status.success()
        };
        assert!(!attempt(&path), "{name} was held by somebody else");
        let open = app.folder.path().join("open");
        fs::write(&open, "").expect("written");
        chown(&open, Some(NOBODY), Some(NOBODY)).expect("owned");
        assert!(attempt(&open), "the attempt itself works");
    }
    app.serve();
}

#[test]
fn a_key_file_that_others_may_read_is_refused_unless_that_is_meant() {
    let mut app = App::prepared(Setup::default());
    let keys = app.folder.path().join("keys");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).expect("a mode");
    for command in [&["serve"][..], &["keys", "list"]] {
        let refused = app.command(command);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{command:?}: {said}");
        for word in ["0644", "chmod 600", "encryption.allow_readable_key_file"] {
            assert!(said.contains(word), "{command:?}: {said}");
        }
    }
    let toml = app.folder.path().join("dripfeed.toml");
    let text = fs::read_to_string(&toml).expect("the configuration");
    fs::write(&toml, text.replace("[encryption]", "[encryption]\nallow_readable_key_file = true")).expect("written");
    app.serve();
}

#[test]
fn keys_come_through_an_open_file_a_pipe_or_a_credential_and_lie_beside_the_configuration() {
    let mut app = App::prepared(Setup::default());
    let at = app.folder.path().to_owned();
    let toml = at.join("dripfeed.toml");
    let text = fs::read_to_string(&toml).expect("the configuration");
    let line = text.lines().find(|line| line.starts_with("key_file")).expect("its line").to_owned();
    // The default: beside the configuration, and not in the folder that it is started in.
    fs::write(&toml, text.replace(&line, "")).expect("written");
    fs::rename(at.join("keys"), at.join("dripfeed.keys")).expect("moved");
    app.launch_by("cd /; exec \"$0\" \"$@\"");
    assert!(app.listens(), "{}", app.complaints());
    app.terminate();
    fs::create_dir(at.join("credentials")).expect("a folder");
    fs::rename(at.join("dripfeed.keys"), at.join("credentials/dripfeed.keys")).expect("moved");
    let keys = at.join("credentials/dripfeed.keys").display().to_string();
    for script in [
        format!("export CREDENTIALS_DIRECTORY={}; exec \"$0\" \"$@\"", at.join("credentials").display()),
        format!("export DRIPFEED_KEYS_FD=3; exec \"$0\" \"$@\" 3< {keys}"),
        format!("export DRIPFEED_KEYS_FD=0; cat {keys} | \"$0\" \"$@\" & trap \"kill $!\" TERM; wait $!"),
    ] {
        app.launch_by(&script);
        assert!(app.listens(), "{script}: {}", app.complaints());
        app.terminate();
    }
    app.launch_by("exec \"$0\" \"$@\"");
    assert!(!app.listens() && app.complaints().contains("there are no encryption keys"), "{}", app.complaints());
}
