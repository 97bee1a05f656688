//! Bringing a database to the version that this program knows.
//!
//! `schema.sql` is what a new database gets, and the only copy of the present version; the steps lead a database of an
//! older dripfeed to the same place. `tests/upgrade.rs` holds the two against each other. The version is SQLite's
//! `user_version`.

use rusqlite::{Connection, TransactionBehavior};

use super::error::{Result, StoreError};

pub(super) const SCHEMA: &str = include_str!("../../schema.sql");
/// Each leads from one version to the next, the first from [`FIRST`]: once that is released, a change of `schema.sql`
/// needs one here.
const STEPS: [&str; 0] = [];
/// The version that there is no way to but anew.
const FIRST: i64 = 1;
/// The version that `schema.sql` describes.
pub const VERSION: i64 = version_behind(&STEPS);

/// The version that these steps lead to.
const fn version_behind(steps: &[&str]) -> i64 {
    FIRST + steps.len() as i64
}

/// Creates or upgrades the schema; refuses a database of a newer dripfeed.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    bring(connection, SCHEMA, &STEPS)
}

/// All steps are one transaction: an upgrade that fails leaves the database as it was, for the dripfeed that wrote it.
fn bring(connection: &mut Connection, schema: &str, steps: &[&str]) -> Result<()> {
    if is_there(version(connection)?, steps)? {
        return Ok(());
    }
    // A step that builds a table anew drops the old one, and what refers to it would be in the way. It cannot be
    // switched off within a transaction, and is checked at its end (<https://www.sqlite.org/lang_altertable.html>, 7).
    let foreign_keys: bool = connection.pragma_query_value(None, "foreign_keys", |row| row.get(0))?;
    connection.pragma_update(None, "foreign_keys", false)?;
    let upgraded = upgrade(connection, schema, steps);
    connection.pragma_update(None, "foreign_keys", foreign_keys)?;
    upgraded
}

/// Whether the database has the version that the steps lead to.
fn is_there(found: i64, steps: &[&str]) -> Result<bool> {
    let known = version_behind(steps);
    if found > known { Err(StoreError::Newer { found, known }) } else { Ok(found == known) }
}

fn upgrade(connection: &mut Connection, schema: &str, steps: &[&str]) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    let found = version(&transaction)?;
    if is_there(found, steps)? {
        return Ok(());
    }
    let known = version_behind(steps);
    if found == 0 {
        transaction.execute_batch(schema)?;
    } else {
        tracing::warn!(
            event = "database.upgraded",
            from = found,
            to = known,
            "the database is upgraded; the way back to the dripfeed before is a backup that was taken before"
        );
        let failed = |source| StoreError::Upgrade { found, known, source };
        for step in steps.iter().skip((found - FIRST) as usize) {
            transaction.execute_batch(step).map_err(failed)?;
        }
        let dangling = transaction.prepare("PRAGMA foreign_key_check")?.exists([])?;
        if dangling {
            return Err(StoreError::UpgradeDangles { found, known });
        }
    }
    transaction.pragma_update(None, "user_version", known)?;
    Ok(transaction.commit()?)
}

fn version(connection: &Connection) -> Result<i64> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
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

    /// A version that there is not: it builds a table anew that others refer to, and adds one.
    const MADE_UP: &str = "
        CREATE TABLE new_clients (client INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, colour TEXT NOT NULL);
        INSERT INTO new_clients SELECT client, name, 'blue' FROM clients;
        DROP TABLE clients;
        ALTER TABLE new_clients RENAME TO clients;
        CREATE TABLE colours (colour TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;";

    /// The present version, taken for the first, as a connection of the writer sees it; with a client, and a record that
    /// refers to it.
    fn version_1() -> Connection {
        let mut connection = Connection::open_in_memory().expect("sqlite");
        connection.pragma_update(None, "foreign_keys", true).expect("set");
        bring(&mut connection, SCHEMA, &[]).expect("version 1");
        connection
            .execute_batch(
                "INSERT INTO clients (client, name, created_at) VALUES (1, 'acme', 0), (2, 'globex', 0);
                 INSERT INTO upload_keys VALUES (2, '/', zeroblob(32), zeroblob(32), 7, x'00', 0);",
            )
            .expect("written");
        connection
    }

    fn clients(connection: &Connection, sql: &str) -> i64 {
        connection.query_row(sql, [], |row| row.get(0)).expect(sql)
    }

    #[test]
    fn a_step_leads_to_the_next_version_and_the_one_before_refuses_it() {
        let mut connection = version_1();
        bring(&mut connection, "", &[MADE_UP]).expect("upgraded");
        assert_eq!(version(&connection).expect("a version"), 2);
        assert_eq!(clients(&connection, "SELECT count(*) FROM clients WHERE colour = 'blue'"), 2);
        assert_eq!(clients(&connection, "SELECT count(*) FROM upload_keys JOIN clients USING (client)"), 1);
        assert_eq!(clients(&connection, "PRAGMA foreign_keys"), 1, "it is on again");
        let after = objects(&connection);

        bring(&mut connection, "", &[MADE_UP]).expect("nothing is left to do");
        let refused = bring(&mut connection, "", &[]).expect_err("it is newer");
        assert!(matches!(refused, StoreError::Newer { found: 2, known: 1 }), "{refused}");
        assert_eq!((objects(&connection), version(&connection).expect("a version")), (after, 2));
    }

    #[test]
    fn an_upgrade_that_fails_leaves_everything_as_it_was() {
        let dangles = "DELETE FROM clients WHERE client = 2";
        for (step, told) in [("CREATE TABLE no", "incomplete input"), (dangles, "refer to something that is gone")] {
            let mut connection = version_1();
            let before = objects(&connection);
            let error = bring(&mut connection, "", &[MADE_UP, step]).expect_err("it fails");
            let error = error.to_string();
            assert!(error.contains(told) && error.contains("from version 1 to 3, and is as it was"), "{error}");
            assert_eq!((objects(&connection), version(&connection).expect("a version")), (before, 1));
            assert_eq!(clients(&connection, "SELECT count(*) FROM clients"), 2);
            assert_eq!(clients(&connection, "PRAGMA foreign_keys"), 1, "it is on again");
        }
    }
}
