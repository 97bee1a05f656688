//! Who looks for keys in the memory of the server: in a core dump, by another process of the same user, in swap.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
};

use crate::support::app::{App, OPERATOR, Setup, agent};

/// An account that nobody else needs.
const NOBODY: u32 = 65_534;

fn proc_line(pid: u32, file: &str, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).expect("Linux");
    text.lines().find(|line| line.starts_with(name)).expect(name).to_owned()
}

#[test]
fn no_core_dump_is_written_and_keys_stay_out_of_swap() {
    let mut app = App::prepared(Setup::default());
    app.launch_by("ulimit -c unlimited 2>/dev/null; exec \"$0\" \"$@\"");
    assert!(app.listens(), "{}", app.log());
    let limits = proc_line(app.process_id(), "limits", "Max core file size");
    assert_eq!(limits.split_whitespace().filter(|word| *word == "0").count(), 2, "{limits}");
    let locked = proc_line(app.process_id(), "status", "VmLck:");
    let locked: u64 = locked.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number");
    let is_told = app.log().contains("keys.not_locked");
    assert!(locked >= 8 || is_told, "the ring's key and the appliance's own secret: {locked} KiB");
    app.terminate();

    // Where nothing may be locked it serves, and says so. Root may lock whatever the limit is.
    app.launch_by("ulimit -l 0; exec \"$0\" \"$@\"");
    assert!(app.listens(), "{}", app.complaints());
    assert!(rustix::process::geteuid().is_root() || app.log().contains("keys.not_locked"), "{}", app.log());
}

#[test]
fn no_other_process_of_the_same_user_looks_into_the_server() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: two processes of another account, which only root can start");
        return;
    }
    let mut app = App::prepared(Setup::default());
    let folder = app.folder.path().to_owned();
    let binary = folder.join("dripfeed");
    fs::copy(env!("CARGO_BIN_EXE_dripfeed"), &binary).expect("a copy that the account can run");
    give(&folder);
    let script =
        format!("shift 0; exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups {} \"$@\"", binary.display());
    app.launch_by(&script);
    assert!(app.listens(), "{} {}", app.log(), app.complaints());
    let mut other =
        Command::new("sleep").arg("60").uid(NOBODY).gid(NOBODY).stdin(Stdio::null()).spawn().expect("sleep");
    let reads = |pid: u32, file: &str| {
        let mut read = Command::new("head");
        read.args(["-c", "1", &format!("/proc/{pid}/{file}")]).uid(NOBODY).gid(NOBODY);
        read.output().expect("coreutils").status.success()
    };
    app.until("the other process runs as somebody else", || reads(other.id(), "environ").then_some(()));
    for file in ["environ", "auxv", "maps"] {
        assert!(!reads(app.process_id(), file), "/proc/PID/{file} of the server was read");
    }
    // What it needs to know of itself it still does.
    let request = agent().get(app.url("/metrics")).header("Authorization", format!("Bearer {OPERATOR}"));
    let metrics = request.call().expect("an answer").body_mut().read_to_string().expect("text");
    assert!(metrics.contains("process_open_fds"), "{metrics}");
    other.kill().expect("ended");
    other.wait().expect("gone");
}

/// Gives a folder with everything in it to the account.
fn give(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).expect("given");
    if path.is_dir() {
        fs::read_dir(path).expect("a folder").for_each(|entry| give(&entry.expect("an entry").path()));
    } else if path.ends_with("dripfeed") {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("a mode");
    }
}
