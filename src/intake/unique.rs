//! Finds values that stand twice in a unique column, in bounded memory at any number of rows.
//!
//! Kept of a value are its line and a 128-bit SipHash under a key that is random for each pass: a file cannot be made
//! to collide, and by chance two of a hundred million different values do so with a probability of about 10^-23. So
//! the answer is exact for every practical purpose, at 24 bytes a value. Nothing of a value reaches the disk.

use std::{io, path::PathBuf};

use siphasher::sip128::SipHasher13;

use super::sorter::{Sorted, Sorter};

/// Bits of a packed number that hold the column; the line has the other 48.
const COLUMN_BITS: u32 = 16;

/// A value that stood further up in the same column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Duplicate {
    pub(super) line: u64,
    /// The column's place in the file, from 0.
    pub(super) position: usize,
    pub(super) first_line: u64,
}

/// A value's digest, line and column, to be added once its row is known to count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting([u64; 3]);

/// Remembers the values of unique columns.
pub(super) struct Unique {
    hasher: SipHasher13,
    /// (digest, digest, line and column)
    seen: Sorter,
    /// (line, column, first line)
    duplicates: Sorter,
    folded: Vec<u8>,
}

impl Unique {
    pub(super) fn new(spool_dir: PathBuf, run_entries: usize) -> Self {
        Self {
            hasher: SipHasher13::new_with_key(&rand::random()),
            seen: Sorter::new(spool_dir.clone(), run_entries),
            duplicates: Sorter::new(spool_dir, run_entries),
            folded: Vec::new(),
        }
    }

    /// Notes that `value` stands on this line; the column's place is hashed with it, so that columns do not mix.
    pub(super) fn sight(&mut self, line: u64, position: usize, value: &str, ignore_case: bool) -> Sighting {
        self.folded.clear();
        self.folded.extend_from_slice(&(position as u16).to_le_bytes());
        self.folded.extend_from_slice(value.as_bytes());
        if ignore_case {
            self.folded[2..].make_ascii_lowercase();
        }
        let (high, low) = self.hasher.hash(&self.folded).as_u64();
        Sighting([high, low, line << COLUMN_BITS | position as u64])
    }

    pub(super) fn add(&mut self, sighting: Sighting) -> io::Result<()> {
        self.seen.push(sighting.0)
    }

    /// Every value that stood further up, by line and column, each with the line where it stood first.
    pub(super) fn finish(self) -> io::Result<Duplicates> {
        let Self { seen, mut duplicates, .. } = self;
        let mut seen = seen.finish()?;
        let mut first = None;
        while let Some([high, low, place]) = seen.next()? {
            let (line, position) = (place >> COLUMN_BITS, place & ((1 << COLUMN_BITS) - 1));
            match first {
                Some((digest, first_line)) if digest == (high, low) => {
                    duplicates.push([line, position, first_line])?;
                }
                _ => first = Some(((high, low), line)),
            }
        }
        Ok(Duplicates(duplicates.finish()?))
    }
}

/// Gives duplicates by line and column.
pub(super) struct Duplicates(Sorted);

impl Duplicates {
    pub(super) fn next(&mut self) -> io::Result<Option<Duplicate>> {
        let duplicate = self.0.next()?;
        Ok(duplicate.map(|[line, position, first_line]| Duplicate { line, position: position as usize, first_line }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_later_one_with_the_first_whether_spilled_or_not() {
        let folder = tempfile::tempdir().unwrap();
        for run_entries in [3, 10_000] {
            let mut unique = Unique::new(folder.path().to_owned(), run_entries);
            for line in 2..1_002 {
                // Every value of column 0 comes back 400 lines later, in capitals; column 1 never repeats, though it
                // holds what column 0 holds elsewhere.
                let email = format!("n{}@example.com", (line - 2) % 400);
                let email = if line < 402 { email } else { email.to_uppercase() };
                for (position, value) in [(0, email), (1, format!("n{line}@example.com"))] {
                    let sighting = unique.sight(line, position, &value, position == 0);
                    unique.add(sighting).unwrap();
                }
            }
            let mut duplicates = unique.finish().unwrap();
            let found: Vec<_> = std::iter::from_fn(|| duplicates.next().unwrap()).collect();
            let expected: Vec<_> =
                (402..1_002).map(|line| Duplicate { line, position: 0, first_line: (line - 2) % 400 + 2 }).collect();
            assert_eq!(found, expected, "in runs of {run_entries}");
        }
    }
}
