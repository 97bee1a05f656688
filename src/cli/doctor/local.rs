//! Tokens, keys, the data folder and its disk.

use std::{fs, io::ErrorKind, os::unix::fs::MetadataExt, path::Path};

use super::finding::Finding;
use crate::{
    config::{BackupTo, Config, tell_size},
    crypto::KeyRing,
    keys::{self, KeysError},
    model::Timestamp,
    private,
    room::reserve,
    store::{FILE_NAME, sizes::Sizes},
    tls::Pair,
};

/// Less than this, or than a twentieth of the disk, is soon gone.
const DISK_WARN_BYTES: u64 = 5 * 1024 * 1024 * 1024;
const DISK_WARN_SHARE: u64 = 20;
/// A WAL that has grown beyond so many times its limit is held by a reader, or by a process that hangs.
const WAL_WARN_TIMES: u64 = 4;

pub(super) fn tokens(config: &Config) -> Option<Finding> {
    let advice = "set access.operator_token or DRIPFEED_OPERATOR_TOKEN";
    let says = "there is no operator token: only operators that were added by name can enter over HTTP";
    config.access.operator_token.is_none().then(|| Finding::warn("tokens", says, advice))
}

/// The ring, or why there is none.
pub(super) fn ring(config: &Config) -> Result<KeyRing, Finding> {
    keys::read_ring(config).map_err(|error| {
        let advice = match error {
            KeysError::OpenToOthers(_) => "`chmod 600` it",
            _ => "put the key file back; in a new installation `dripfeed keys generate` makes a key",
        };
        Finding::fail("keys", error.to_string(), advice)
    })
}

/// Who may read the key file, and where it lies.
pub(super) fn key_file(config: &Config) -> Vec<Finding> {
    let Some(path) = config.encryption.file() else {
        return vec![Finding::ok("key file", format!("the keys come from {}", config.encryption))];
    };
    // That it is not there is told by the check of the keys.
    let Ok(metadata) = fs::metadata(path) else { return Vec::new() };
    let mut found = Vec::new();
    let says = |mode| format!("mode {mode:04o}: others than its owner may read or change it");
    let advice = format!("chmod 600 {}", path.display());
    found.push(match private::open_to_others(&metadata) {
        None => Finding::ok("key file", format!("mode {:04o}", metadata.mode() & 0o777)),
        Some(mode) if config.encryption.allow_readable_key_file => Finding::warn("key file", says(mode), advice),
        Some(mode) => Finding::fail("key file", says(mode), advice),
    });
    let inside = |path: &std::path::Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if inside(path).starts_with(inside(&config.storage.data_dir)) {
        let says = "lies in the data folder: whoever copies the one has both";
        found.push(Finding::warn("key file", says, "move it elsewhere, and set encryption.key_file"));
    }
    found
}

/// Whether the certificate can be shown, and until when.
pub(super) fn certificate(config: &Config, now: Timestamp) -> Option<Finding> {
    let files = config.server.tls.as_ref()?;
    let pair = match Pair::read(files) {
        Ok(pair) => pair,
        Err(error) => return Some(Finding::fail("certificate", error.to_string(), "correct it, then send SIGHUP")),
    };
    let advice = "put a new one in its place, then send the server SIGHUP";
    let Some(validity) = pair.validity else {
        return Some(Finding::warn("certificate", "from when until when it is valid cannot be told", advice));
    };
    if let Some(fault) = validity.fault(now) {
        return Some(Finding::fail("certificate", format!("server.tls_cert: it {fault}"), advice));
    }
    let says = format!("its key fits, and it is valid until {}", validity.ends);
    Some(match validity.ends_soon(now) {
        true => Finding::warn("certificate", says, advice),
        false => Finding::ok("certificate", says),
    })
}

/// What lies where a disk that is lost takes it along.
pub(super) fn backup_folder(config: &Config) -> Vec<Finding> {
    let Some(BackupTo::Folder(folder)) = &config.backup.to else { return Vec::new() };
    let mut found = Vec::new();
    let device = |path: &std::path::Path| fs::metadata(path).map(|it| it.dev()).ok();
    let (there, data) = (device(folder), device(&config.storage.data_dir));
    if there.is_some() && there == data {
        let says = format!("{} is on the disk of the data folder: whoever loses that loses both", folder.display());
        found.push(Finding::warn("backups", says, "set backup.to to a folder on another disk, or to the bucket"));
    }
    let inside = |path: &std::path::Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if config.encryption.file().is_some_and(|keys| inside(keys).starts_with(inside(folder))) {
        let says = "lies in the folder of the backups: whoever copies the one has both";
        found.push(Finding::warn("key file", says, "move it elsewhere, and set encryption.key_file"));
    }
    found
}

pub(super) fn data_folder(config: &Config) -> Finding {
    let folder = &config.storage.data_dir;
    match tempfile::NamedTempFile::new_in(folder) {
        Ok(_) => Finding::ok("data folder", folder.display().to_string()),
        Err(_) if !folder.exists() => {
            let says = format!("{} is not there yet", folder.display());
            Finding::warn(
                "data folder",
                says,
                "`dripfeed serve` makes it; check storage.data_dir if it should be there",
            )
        }
        Err(error) => {
            let says = format!("no file can be made in {}: {error}", folder.display());
            let advice = match error.kind() {
                ErrorKind::StorageFull => "free some space",
                _ => "give the user that dripfeed runs as the right to write there",
            };
            Finding::fail("data folder", says, advice)
        }
    }
}

/// Whether others on this machine may enter the data folder, or open what is in it.
pub(super) fn others(config: &Config) -> Option<Finding> {
    let folder = &config.storage.data_dir;
    let open = |path: &Path| private::mode_for_others(path).map(|mode| (path.to_owned(), mode));
    // That it is not there is told by the check of the folder.
    let (_, mode) = match open(folder) {
        None => return folder.exists().then(|| Finding::ok("permissions", "nobody else may enter the data folder")),
        Some(open) => open,
    };
    let files = [FILE_NAME, &format!("{FILE_NAME}-wal"), &format!("{FILE_NAME}-shm")].map(|name| folder.join(name));
    Some(match files.iter().find_map(|path| open(path)) {
        None => {
            let says = format!("mode {mode:04o}: others may enter the data folder, and open none of its files");
            Finding::ok("permissions", says)
        }
        Some((path, mode)) => {
            let says = format!("{} has mode {mode:04o}, and others may enter the data folder", path.display());
            Finding::fail("permissions", says, format!("chmod 700 {}", folder.display()))
        }
    })
}

pub(super) fn disk(sizes: Sizes, configured_reserve: Option<u64>) -> Finding {
    let (Some(free), Some(total)) = (sizes.disk_free_bytes, sizes.disk_total_bytes) else {
        return Finding::warn("disk", "its size cannot be told", "check that storage.data_dir is there");
    };
    let reserve = reserve(configured_reserve, total);
    let says =
        format!("{} of {} free, {} kept back (storage.reserve)", tell_size(free), tell_size(total), tell_size(reserve));
    let advice =
        "free some space, or move storage.data_dir to a larger disk; `dripfeed purge` lets finished batches go";
    if free < reserve {
        let says = format!("{says}: uploads are refused, and extraction waits");
        return Finding::fail("disk", says, advice);
    }
    if free < DISK_WARN_BYTES || free < total / DISK_WARN_SHARE {
        return Finding::warn("disk", says, advice);
    }
    Finding::ok("disk", says)
}

pub(super) fn wal(sizes: Sizes, limit: u64) -> Finding {
    let bytes = sizes.wal_bytes.unwrap_or(0);
    if bytes <= limit.saturating_mul(WAL_WARN_TIMES) {
        return Finding::ok("WAL", tell_size(bytes));
    }
    let says = format!("{}, and database.wal_limit is {}: it cannot be cut", tell_size(bytes), tell_size(limit));
    Finding::warn(
        "WAL",
        says,
        "a backup that is being taken, or a process that hangs, holds it; it shrinks when that ends",
    )
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};

    #[test]
    fn a_disk_that_is_nearly_full_warns_and_a_full_one_fails() {
        let of = |free, total| Sizes {
            database_bytes: None,
            wal_bytes: Some(300_000_000),
            disk_free_bytes: Some(free),
            disk_total_bytes: Some(total),
        };
        let gigabyte = 1_000_000_000;
        assert_eq!(disk(of(100 * gigabyte, 500 * gigabyte), None).level, Level::Ok);
        assert_eq!(disk(of(20 * gigabyte, 500 * gigabyte), None).level, Level::Warn, "a twentieth of a large disk");
        assert_eq!(disk(of(2 * gigabyte, 10 * gigabyte), None).level, Level::Warn);
        let full = disk(of(gigabyte / 10, 10 * gigabyte), None);
        let says = "100.0 MB of 10.0 GB free, 500.0 MB kept back (storage.reserve): uploads are refused, and extraction \
                    waits";
        assert_eq!((full.level, full.says.as_str()), (Level::Fail, says));
        assert_eq!(disk(of(gigabyte, 100 * gigabyte), None).level, Level::Fail, "1 GiB of a large disk is kept back");
        assert_eq!(disk(of(gigabyte, 100 * gigabyte), Some(gigabyte)).level, Level::Warn);
        assert_eq!(wal(of(0, 0), 64_000_000).level, Level::Warn);
        assert_eq!(wal(of(0, 0), 100_000_000).level, Level::Ok);
    }
}
