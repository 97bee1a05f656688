//! What a row carries: the cells of its record, as they came.

/// The cells of one record in the file's order, and where the record first came from.
///
/// As bytes, to be sealed: origin and cells joined by NUL, which no cell can hold (validation refuses it). No length
/// fields, no escaping, nothing to get wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// `BATCH/NUMBER` of the row that this record was in one of our result files; empty for a record of its own.
    pub origin: String,
    /// One value for each kept column of the file; an empty optional column is `""`.
    pub cells: Vec<String>,
}

const SEPARATOR: u8 = 0;

impl Record {
    /// Writes origin and cells behind `out`, as [`Record::decode`] reads them.
    pub fn encode(out: &mut Vec<u8>, origin: &str, cells: impl Iterator<Item = impl AsRef<str>>) {
        out.extend_from_slice(origin.as_bytes());
        for cell in cells {
            out.push(SEPARATOR);
            out.extend_from_slice(cell.as_ref().as_bytes());
        }
    }

    /// Reads what [`Record::encode`] wrote; `None` for bytes that it cannot have written.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.split(char::from(SEPARATOR)).map(str::to_owned);
        Some(Self { origin: parts.next()?, cells: parts.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_wrote() {
        for (origin, cells) in [("", vec!["a", "", "c\nd"]), ("bat_x/3", vec![""]), ("", vec![])] {
            let mut bytes = Vec::new();
            Record::encode(&mut bytes, origin, cells.iter());
            let record = Record::decode(&bytes).expect("our own bytes");
            assert_eq!(record.origin, origin);
            assert_eq!(record.cells, cells);
        }
        assert_eq!(Record::decode(&[0xff]), None);
    }
}
