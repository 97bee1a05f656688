//! Whether there is room for a backup, asked before it takes any.

use std::path::Path;

use super::BackupError;

/// Left over for everybody else on the disk, which a backup must not be what fills: so much, and on a small one a
/// twentieth of it.
const LEFT_OVER: u64 = 64 * 1024 * 1024;
const LEFT_OVER_SHARE: u64 = 20;
const MEGABYTE: u64 = 1_000_000;

/// Whether `folder`, which is there, can take so many bytes. Where the system does not tell, it is tried.
pub(super) fn check(folder: &Path, bytes: u64) -> Result<(), BackupError> {
    let Ok(disk) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let left_over = LEFT_OVER.min(disk.f_blocks.saturating_mul(disk.f_frsize) / LEFT_OVER_SHARE);
    let (needed, free) = (bytes.saturating_add(left_over), disk.f_bavail.saturating_mul(disk.f_frsize));
    if free >= needed {
        return Ok(());
    }
    Err(BackupError::NoRoom { folder: folder.to_owned(), needed: needed.div_ceil(MEGABYTE), free: free / MEGABYTE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_needed_and_what_there_is() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(check(folder.path(), 0).is_ok());
        let said = check(folder.path(), u64::MAX / 2).expect_err("no disk is so large").to_string();
        assert!(said.contains("make room there") && said.contains(&folder.path().display().to_string()), "{said}");
        assert!(check(Path::new("/nowhere/at/all"), u64::MAX).is_ok(), "what cannot be asked is tried");
    }
}
