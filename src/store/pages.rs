//! Pages of lists: so many entries and no more, and no more once they take so many bytes. What an entry holds can be long:
//! reasons, messages, whole rows.

use rusqlite::{Row, Rows, types::ValueRef};

use super::error::Result;

/// The bytes that the entries of a page are stored in, where nobody says: a thousand of the usual kind are less.
const PAGE_BYTES: usize = 512 << 10;

/// How long a page may become.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Entries.
    pub entries: u32,
    /// Bytes that they are stored in, above which no other is put to them.
    pub bytes: usize,
}

impl Most {
    /// So many entries, in the bytes that a page has.
    pub const fn entries(entries: u32) -> Self {
        Self { entries, bytes: PAGE_BYTES }
    }

    /// So many entries, however long they are: for a process that does nothing else.
    pub const fn of_any_length(entries: u32) -> Self {
        Self { entries, bytes: usize::MAX }
    }

    /// Whether so many entries of so many bytes are a page.
    pub(super) fn is_reached(self, entries: usize, bytes: usize) -> bool {
        entries >= self.entries as usize || bytes >= self.bytes
    }
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// In the list's order.
    pub entries: Vec<T>,
    /// Whether the list goes on behind them.
    pub goes_on: bool,
}

impl<T> Page<T> {
    /// Takes entries until it is full. One is there at least, where there is any.
    pub(super) fn read(mut found: Rows<'_>, most: Most, entry: impl Fn(&Row<'_>) -> Result<T>) -> Result<Self> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(row) = found.next()? {
            if most.is_reached(entries.len(), bytes) {
                return Ok(Self { entries, goes_on: true });
            }
            bytes += stored_bytes(row)?;
            entries.push(entry(row)?);
        }
        Ok(Self { entries, goes_on: false })
    }

    /// Where the next page begins, where there is one.
    pub fn next<C>(&self, behind: impl FnOnce(&T) -> C) -> Option<C> {
        self.entries.last().filter(|_| self.goes_on).map(behind)
    }
}

/// What a row of a result takes, but for what each takes.
pub(super) fn stored_bytes(row: &Row<'_>) -> Result<usize> {
    let mut bytes = 0;
    for column in 0..row.as_ref().column_count() {
        bytes += match row.get_ref(column)? {
            ValueRef::Text(value) | ValueRef::Blob(value) => value.len(),
            ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 0,
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    fn page(sql: &str, most: Most) -> Page<i64> {
        let connection = Connection::open_in_memory().expect("a database");
        let mut statement = connection.prepare(sql).expect("a statement");
        Page::read(statement.query([]).expect("a query"), most, |row| Ok(row.get(0)?)).expect("a page")
    }

    #[test]
    fn a_page_ends_with_its_entries_its_bytes_or_the_list() {
        let three = "SELECT value, zeroblob(1000) FROM json_each('[1, 2, 3]')";
        let most = |entries, bytes| Most { entries, bytes };
        let told = |page: Page<i64>| (page.next(|last| *last), page.entries);
        assert_eq!(told(page(three, most(2, 1 << 20))), (Some(2), vec![1, 2]));
        assert_eq!(told(page(three, most(9, 1_001))), (Some(2), vec![1, 2]));
        assert_eq!(told(page(three, most(9, 1))), (Some(1), vec![1]), "one at least");
        assert_eq!(told(page(three, most(3, 3_000))), (None, vec![1, 2, 3]), "nothing is behind it");
        assert_eq!(told(page("SELECT 1 WHERE 0", Most::entries(9))), (None, vec![]));
    }
}
