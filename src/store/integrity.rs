//! Whether the database file is sound, and how large it and its WAL are.

use rusqlite::Connection;

use super::error::Result;

/// Faults that are told; a file that has more is lost anyway.
const FAULTS_TOLD: u32 = 20;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every page and its links (`quick_check`).
    Quick,
    /// Also that every index holds what its table holds (`integrity_check`).
    Full,
}

/// What SQLite's own check finds wrong (<https://www.sqlite.org/pragma.html#pragma_integrity_check>); nothing, in a
/// sound file. Reads the whole file.
pub fn faults(connection: &Connection, depth: Depth) -> Result<Vec<String>> {
    let check = match depth {
        Depth::Quick => "quick_check",
        Depth::Full => "integrity_check",
    };
    let mut statement = connection.prepare(&format!("PRAGMA {check}({FAULTS_TOLD})"))?;
    let found = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found.into_iter().filter(|line| line != "ok").collect())
}
