//! What nobody else on this machine may open: folders 0700, files 0600, whatever the umask is and whatever they were before; and
//! the memory of this process.
//!
//! What is private in these files is sealed. But who reads the database sees ids, counts and names, who opens it can hold its
//! locks, and who holds the lock file keeps the server from starting.

use std::{
    fs::{self, DirBuilder, File, Metadata, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit},
};

/// All that others than the owner may do with a file.
const OTHERS: u32 = 0o077;
/// What is in a data folder, by how its name begins; and what volumes and tools leave there.
const OURS: [&str; 12] = [
    "dripfeed",
    "serve.lock",
    "home",
    "objects",
    "spool",
    "backup.lock",
    "backing-up",
    "restoring",
    "placing",
    "keys",
    "lost+found",
    ".",
];

/// Has this process make nothing that others may open, its libraries included.
pub fn make_nothing_for_others() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Has nobody read this process's memory, where keys and rows are: no core dump is written when it dies, and no other process of
/// the same user, a debugger included, may look into it (PR_SET_DUMPABLE); root may.
pub fn shut_memory() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Makes a folder that only its owner enters. One that is there already becomes such a folder, unless it is not ours alone:
/// another's, or with other things in it than dripfeed's, for whoever they are for.
pub fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    if is_open(&fs::metadata(path)?) && is_ours_alone(path)? { tighten(path) } else { Ok(()) }
}

/// Opens a file to be written, which is made where it is not there, and which only its owner may open from now on.
pub fn file(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    if is_open(&file.metadata()?) {
        tighten(path)?;
    }
    Ok(file)
}

/// Opens a file to be read that has to be there again the next time: a pipe, a device or a socket is refused, and never waited for.
pub fn regular_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    // Of the file that was opened, and not of one that takes its place meanwhile.
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file: a pipe or a device is not read"))
    }
}

/// Shuts a file that may have been made for others too; one that is not there is fine.
pub fn shut(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if is_open(&metadata) => tighten(path),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The mode of a file or folder that others than its owner may open.
pub fn mode_for_others(path: &Path) -> Option<u32> {
    let metadata = fs::metadata(path).ok()?;
    is_open(&metadata).then_some(metadata.mode() & 0o777)
}

/// The mode of a file that holds secrets, where others than whom it is for may open it.
///
/// The rule is PostgreSQL's for `ssl_key_file`: the owner alone; but where it is root's, one group may read it, for that is how
/// root hands a file to a service that is somebody else, and how Kubernetes mounts a Secret under an `fsGroup`.
pub fn open_to_others(metadata: &Metadata) -> Option<u32> {
    let is_handed_by_root = metadata.uid() == 0 && !rustix::process::geteuid().is_root();
    let forbidden = if is_handed_by_root { 0o037 } else { OTHERS };
    let mode = metadata.mode() & 0o777;
    (metadata.is_file() && mode & forbidden != 0).then_some(mode)
}

fn is_open(metadata: &Metadata) -> bool {
    metadata.mode() & OTHERS != 0
}

fn is_ours_alone(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if !OURS.iter().any(|ours| name.as_encoded_bytes().starts_with(ours.as_bytes())) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes everything from others. What belongs to somebody else stays as that one wants it.
fn tighten(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.mode() & 0o7700;
    match fs::set_permissions(path, Permissions::from_mode(mode)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").mode() & 0o777
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
    }

    #[test]
    fn what_was_open_is_shut_and_what_others_share_is_left() {
        let folder_of_test = tempfile::tempdir().expect("a folder");
        let data = folder_of_test.path().join("a/data");
        folder(&data).expect("made");
        assert_eq!(mode(&data), 0o700);
        set(&data, 0o755);
        file(&data.join("serve.lock")).expect("made");
        assert_eq!(mode(&data.join("serve.lock")), 0o600);
        set(&data.join("serve.lock"), 0o666);
        file(&data.join("serve.lock")).expect("opened");
        fs::write(data.join("dripfeed.db-wal"), "").expect("written");
        set(&data.join("dripfeed.db-wal"), 0o644);
        shut(&data.join("dripfeed.db-wal")).expect("shut");
        shut(&data.join("dripfeed.db-shm")).expect("it is not there");
        assert_eq!((mode(&data.join("serve.lock")), mode(&data.join("dripfeed.db-wal"))), (0o600, 0o600));
        folder(&data).expect("shut");
        assert_eq!(mode(&data), 0o700);

        fs::write(data.join("somebody's"), "").expect("written");
        set(&data, 0o755);
        folder(&data).expect("it is there");
        assert_eq!(mode(&data), 0o755, "others are meant to enter it");
    }

    #[test]
    fn a_pipe_a_folder_and_a_device_are_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let (pipe, file) = (folder.path().join("pipe"), folder.path().join("file"));
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .expect("a pipe");
        fs::write(&file, "text").expect("written");
        for refused in [&pipe, folder.path(), Path::new("/dev/zero")] {
            let error = regular_file(refused).expect_err("no regular file").to_string();
            assert!(error.contains("no regular file"), "{}: {error}", refused.display());
        }
        assert_eq!(io::read_to_string(regular_file(&file).expect("opened")).expect("read"), "text");
    }

    #[test]
    fn a_secret_is_open_where_others_may_do_anything_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        fs::write(&path, "").expect("written");
        for (mode, open) in
            [(0o600, None), (0o400, None), (0o640, Some(0o640)), (0o604, Some(0o604)), (0o622, Some(0o622))]
        {
            set(&path, mode);
            assert_eq!(open_to_others(&fs::metadata(&path).expect("it is there")), open, "{mode:o}");
        }
    }
}
