//! The database as files: its write-ahead log stays in bounds whoever reads, and the file shrinks when batches go.

#[path = "../support/mod.rs"]
mod support;

mod shrinking;
mod wal;

use support::app::App;

/// The size of the database's file, or of its write-ahead log.
fn size(app: &App, name: &str) -> u64 {
    std::fs::metadata(app.data_dir().join(name)).map_or(0, |file| file.len())
}
