//! How much room the database takes, and how much is left for it.

use std::path::Path;

use super::FILE_NAME;

/// Bytes of the database and of the disk that it lies on. `None` where the system does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Sizes {
    /// Of the database's file.
    pub database_bytes: Option<u64>,
    /// Of its write-ahead log.
    pub wal_bytes: Option<u64>,
    /// Left on the disk.
    pub disk_free_bytes: Option<u64>,
    /// Of the disk.
    pub disk_total_bytes: Option<u64>,
}

/// The sizes of the database in `data_dir`.
pub fn of(data_dir: &Path) -> Sizes {
    let file = |name: &str| std::fs::metadata(data_dir.join(name)).ok().map(|file| file.len());
    let disk = rustix::fs::statvfs(data_dir).ok();
    let bytes =
        |blocks: fn(&rustix::fs::StatVfs) -> u64| disk.as_ref().map(|disk| blocks(disk).saturating_mul(disk.f_frsize));
    Sizes {
        database_bytes: file(FILE_NAME),
        wal_bytes: file(&format!("{FILE_NAME}-wal")),
        disk_free_bytes: bytes(|disk| disk.f_bavail),
        disk_total_bytes: bytes(|disk| disk.f_blocks),
    }
}
