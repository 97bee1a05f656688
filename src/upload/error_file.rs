//! Every finding of a refused file, as a file of its own: written aside while the upload is checked, and read back
//! once, in the order of the lines. However many there are, none is held in memory; how many there can be is limited by
//! the rows and columns that a file may have.

use std::{
    io,
    path::{Path, PathBuf},
};

use csv::StringRecord;

use super::spool::{Spool, Spooled};
use crate::{
    intake::{Finding, FindingCode},
    model::safe_cell,
    room::NoRoom,
};

const HEADER: [&str; 5] = ["line", "column", "column_number", "code", "message"];
/// About so many bytes are read back at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// It is looked whether the disk has room for more whenever so many bytes were written.
const LOOK_EVERY_BYTES: usize = 1 << 20;

/// Findings that are being written aside.
pub struct ErrorFile {
    spool_dir: PathBuf,
    has_room: Box<dyn Fn() -> Result<(), NoRoom> + Send>,
    /// Bytes that were written since it was looked.
    unseen: usize,
    /// Both lists are in order by themselves: what stands in a row, and the values that repeat earlier ones, which are
    /// known only at the end.
    rows: Option<Aside>,
    repeats: Option<Aside>,
}

/// Findings that are being read back.
pub struct ErrorLines {
    rows: Option<Reading>,
    repeats: Option<Reading>,
    begun: bool,
}

struct Aside(csv::Writer<Spool>);

struct Reading {
    records: csv::Reader<Spooled>,
    next: StringRecord,
}

impl ErrorFile {
    /// An empty one. Nothing is written before the first finding, and nothing more once there is no room.
    pub fn new(spool_dir: PathBuf, has_room: impl Fn() -> Result<(), NoRoom> + Send + 'static) -> Self {
        Self { spool_dir, has_room: Box::new(has_room), unseen: 0, rows: None, repeats: None }
    }

    /// One more finding.
    pub fn add(&mut self, finding: &Finding) -> io::Result<()> {
        if self.unseen >= LOOK_EVERY_BYTES {
            (self.has_room)().map_err(|short| io::Error::new(io::ErrorKind::StorageFull, short))?;
            self.unseen = 0;
        }
        let aside = if finding.code == FindingCode::DuplicateValue { &mut self.repeats } else { &mut self.rows };
        let aside = match aside {
            Some(aside) => aside,
            None => aside.insert(Aside::begin(&self.spool_dir)?),
        };
        self.unseen += aside.add(finding)?;
        Ok(())
    }

    /// Everything that was written, to be read once.
    pub fn read(self) -> io::Result<ErrorLines> {
        let reading = |aside: Option<Aside>| aside.map(Aside::read).transpose();
        Ok(ErrorLines { rows: reading(self.rows)?.flatten(), repeats: reading(self.repeats)?.flatten(), begun: false })
    }
}

impl Aside {
    fn begin(spool_dir: &Path) -> io::Result<Self> {
        Ok(Self(csv::Writer::from_writer(Spool::begin(spool_dir)?)))
    }

    /// Gives how many bytes it is about.
    fn add(&mut self, finding: &Finding) -> io::Result<usize> {
        let column_number = finding.column_number.map(|number| number.to_string()).unwrap_or_default();
        let column = finding.column.as_deref().unwrap_or_default();
        let line = finding.line.to_string();
        // A column's name comes from the file, and so may a word of a message: no spreadsheet is to run it as a formula.
        let cells = [&line, column, &column_number, finding.code.as_str(), &finding.message].map(safe_cell::harmless);
        self.0.write_record(cells.iter().map(|cell| cell.as_bytes())).map_err(not_written)?;
        Ok(cells.iter().map(|cell| cell.len() + 1).sum())
    }

    fn read(self) -> io::Result<Option<Reading>> {
        let spool = self.0.into_inner().map_err(csv::IntoInnerError::into_error)?;
        let records = csv::ReaderBuilder::new().has_headers(false).from_reader(spool.read()?);
        Reading { records, next: StringRecord::new() }.step()
    }
}

/// A full disk is to be known as one, behind the CSV too.
fn not_written(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        _ => io::Error::other("a finding has another number of fields than the others"),
    }
}

impl Reading {
    /// With the next finding at hand; `None` at the end.
    fn step(mut self) -> io::Result<Option<Self>> {
        let is_there = self.records.read_record(&mut self.next)?;
        Ok(is_there.then_some(self))
    }

    fn place(&self) -> (u64, u64) {
        let number = |field| self.next.get(field).and_then(|text| text.parse().ok()).unwrap_or(0);
        (number(0), number(2))
    }
}

impl ErrorLines {
    /// The next piece of the file; `None` at its end. Blocks.
    pub fn next_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut chunk = csv::Writer::from_writer(Vec::with_capacity(CHUNK_BYTES));
        let mut bytes = 0;
        if !std::mem::replace(&mut self.begun, true) {
            chunk.write_record(HEADER)?;
            bytes = HEADER.len();
        }
        while bytes < CHUNK_BYTES {
            let of_repeats = match (&self.rows, &self.repeats) {
                (None, None) => break,
                (Some(row), Some(repeat)) => repeat.place() < row.place(),
                (rows, _) => rows.is_none(),
            };
            let from = if of_repeats { &mut self.repeats } else { &mut self.rows };
            if let Some(reading) = from.take() {
                chunk.write_record(&reading.next)?;
                bytes += reading.next.as_slice().len();
                *from = reading.step()?;
            }
        }
        let chunk = chunk.into_inner().map_err(csv::IntoInnerError::into_error)?;
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(line: u64, column: &str, code: FindingCode) -> Finding {
        Finding {
            line,
            column: Some(column.to_owned()),
            column_number: Some(1),
            code,
            message: "no, \"not\" so".into(),
        }
    }

    #[test]
    fn findings_come_back_by_their_lines_in_pieces_and_the_folder_stays_empty() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut errors = ErrorFile::new(folder.path().to_owned(), || Ok(()));
        let missing = (2..=3_000).map(|line| finding(line, "=email", FindingCode::MissingValue));
        let repeated = (2..=3_000).map(|line| finding(line, "email", FindingCode::DuplicateValue));
        missing.chain(repeated).for_each(|finding| errors.add(&finding).expect("written"));
        let mut lines = errors.read().expect("read back");
        let chunks: Vec<_> = std::iter::from_fn(|| lines.next_chunk().expect("a piece")).collect();
        assert!(chunks.len() > 2 && chunks.iter().all(|chunk| chunk.len() < 2 * CHUNK_BYTES));
        let text = String::from_utf8(chunks.concat()).expect("UTF-8");
        let mut told = text.lines();
        assert_eq!(told.next(), Some("line,column,column_number,code,message"));
        for line in 2..=3_000 {
            let missing = format!("{line},'=email,1,missing_value,\"no, \"\"not\"\" so\"");
            assert_eq!(told.next(), Some(missing.as_str()));
            assert!(told.next().is_some_and(|told| told.starts_with(&format!("{line},email,1,duplicate_value,"))));
        }
        assert_eq!(told.next(), None);
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
    }

    #[test]
    fn nothing_more_is_written_once_there_is_no_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let short = NoRoom { free: 1, reserve: 2, needed: 0 };
        let mut errors = ErrorFile::new(folder.path().to_owned(), move || Err(short));
        let mut bytes = 0;
        let error = loop {
            let finding = finding(2, "email", FindingCode::MissingValue);
            match errors.add(&finding) {
                Ok(()) => bytes += finding.message.len(),
                Err(error) => break error,
            }
            assert!(bytes < LOOK_EVERY_BYTES, "it goes on");
        };
        assert_eq!((error.kind(), error.downcast().ok()), (io::ErrorKind::StorageFull, Some(short)));
    }

    #[test]
    fn no_finding_makes_a_header_and_no_file() {
        let mut lines = ErrorFile::new("/nowhere/at/all".into(), || Ok(())).read().expect("nothing to read");
        assert_eq!(lines.next_chunk().expect("a piece"), Some(b"line,column,column_number,code,message\n".to_vec()));
        assert_eq!(lines.next_chunk().expect("the end"), None);
    }
}
