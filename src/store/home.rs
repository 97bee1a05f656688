//! The table `home`: which data folder this database lives in.

use rusqlite::Connection;

use super::{Tx, error::Result};

/// The number of its data folder; `None` where no server has made it its own yet.
pub fn number(connection: &Connection) -> Result<Option<i64>> {
    Ok(connection.query_row("SELECT number FROM home WHERE only = 1", [], |row| row.get(0))?)
}

/// Makes it live in the data folder with this number.
pub fn move_in(tx: &Tx<'_>, number: i64) -> Result<()> {
    tx.connection.prepare_cached("UPDATE home SET number = ? WHERE only = 1")?.execute([number])?;
    Ok(())
}

/// Makes it live nowhere, until the next server makes it its own.
pub fn leave(tx: &Tx<'_>) -> Result<()> {
    tx.connection.prepare_cached("UPDATE home SET number = NULL WHERE only = 1")?.execute([])?;
    Ok(())
}
