//! How wide rows are that could be claimed. What a row takes of memory while it is under way goes by that, and it is known
//! before it is claimed: those that have no room stay here.
//!
//! SQLite tells the length of a blob without reading it: it stands in the head of the row
//! (<https://www.sqlite.org/fileformat2.html#record_format>).

use rusqlite::{Connection, Rows, named_params};

use super::{
    claims::{Kind, Wanted},
    error::Result,
};

/// The bytes that a row is stored in.
const BYTES: &str = "length(data) + coalesce(length(progress), 0) + coalesce(length(error), 0)";

/// The widths of the rows that [`super::claims::claim`] would take of this, in its order; 0 stands for one that is not there, or
/// that it would pass over. No more of them than come to `most` bytes, and one behind those.
pub fn of(connection: &Connection, wanted: &Wanted, most: usize) -> Result<Vec<usize>> {
    if wanted.kind == Kind::New {
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {BYTES}, row - (:batch << 24) - next_row FROM batches CROSS JOIN rows
             WHERE batch = :batch AND row >= (:batch << 24) + next_row AND row < (:batch << 24) + next_row + :rows
               AND rows.status = 'pending' AND rows.next_attempt_at IS NULL
             ORDER BY row"
        ))?;
        let parameters = named_params! { ":batch": wanted.batch, ":rows": wanted.rows };
        return collect(statement.query(parameters)?, wanted, most);
    }
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {BYTES}, NULL FROM rows INDEXED BY rows_waiting
         WHERE row >> 24 = :batch AND step = :step AND prepaid = :prepaid AND status = 'pending'
           AND next_attempt_at IS NOT NULL
         ORDER BY next_attempt_at, row LIMIT :rows"
    ))?;
    let parameters = named_params! {
        ":batch": wanted.batch, ":step": wanted.step, ":prepaid": wanted.kind == Kind::Prepaid, ":rows": wanted.rows,
    };
    collect(statement.query(parameters)?, wanted, most)
}

/// Of widths, and of their places where some are passed over.
fn collect(mut found: Rows<'_>, wanted: &Wanted, most: usize) -> Result<Vec<usize>> {
    let (mut widths, mut sum) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let (width, place): (u32, Option<u32>) = (row.get(0)?, row.get(1)?);
        widths.resize(place.map_or(widths.len(), |place| place as usize), 0);
        widths.push(width as usize);
        sum += width as usize;
        if sum > most {
            return Ok(widths);
        }
    }
    widths.resize(wanted.rows as usize, 0);
    Ok(widths)
}
