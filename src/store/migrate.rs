//! Bringing a database to the version that this program knows.
//!
//! `schema.sql` is what a new database gets; the steps here lead an older one to the same place, and a test holds the
//! two against each other. The version is SQLite's `user_version`.

use rusqlite::{Connection, TransactionBehavior};

use super::error::{Result, StoreError};

const SCHEMA: &str = include_str!("../../schema.sql");
/// Step `n` leads from version `n` to `n + 1`; the first one makes version 1 out of nothing.
const STEPS: [&str; 1] = [include_str!("migrations/1.sql")];
/// The version that `schema.sql` describes.
pub const VERSION: i64 = STEPS.len() as i64;

/// Creates or upgrades the schema; refuses a database of a newer dripfeed.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > VERSION {
        return Err(StoreError::Newer { found, known: VERSION });
    }
    if found == 0 {
        transaction.execute_batch(SCHEMA)?;
    } else {
        for step in STEPS.iter().skip(found as usize) {
            transaction.execute_batch(step)?;
        }
    }
    if found < VERSION {
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(connection: &Connection) -> Vec<(String, String)> {
        let mut statement = connection
            .prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
            .expect("a schema table");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        rows.map(|row| row.expect("a row")).collect()
    }

    #[test]
    fn migrated_equals_fresh() {
        let fresh = Connection::open_in_memory().expect("sqlite");
        fresh.execute_batch(SCHEMA).expect("schema.sql runs");
        let migrated = Connection::open_in_memory().expect("sqlite");
        for step in STEPS {
            migrated.execute_batch(step).expect("the step runs");
        }
        assert!(objects(&fresh).len() > 10);
        assert_eq!(objects(&fresh), objects(&migrated));
    }

    #[test]
    fn a_second_start_changes_nothing_and_a_newer_file_is_refused() {
        let mut connection = Connection::open_in_memory().expect("sqlite");
        migrate(&mut connection).expect("a new database");
        let before = objects(&connection);
        migrate(&mut connection).expect("the same again");
        assert_eq!(objects(&connection), before);

        connection.pragma_update(None, "user_version", VERSION + 1).expect("a version");
        let error = migrate(&mut connection).expect_err("too new");
        assert!(error.to_string().contains("use the dripfeed that wrote it"), "{error}");
    }
}
