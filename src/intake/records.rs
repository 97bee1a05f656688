//! Records and their lines. csv-core does the parsing; the buffers are ours, so that no record can grow without bound.
//!
//! A record's line is the one on which it starts, counted by CR, LF and CRLF alike, also inside quotes. Blank lines
//! are passed over and counted.

use std::io::{self, Read};

use csv_core::ReadRecordResult;

/// Bytes that are read at once.
const BUFFER: usize = 64 * 1024;
/// The largest record, all its cells together.
pub const LARGEST_RECORD: usize = 1024 * 1024;
/// The most cells of a record.
pub const MOST_CELLS: usize = 4_096;
const UTF8_BOM: &[u8] = &[0xef, 0xbb, 0xbf];

/// A fault of the file's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormFault {
    /// A quote opens and never closes.
    UnclosedQuote,
    /// The record is larger than [`LARGEST_RECORD`].
    TooLong,
    /// The record has more than [`MOST_CELLS`] cells.
    TooManyCells,
    /// Not UTF-8: in the cell with this index (from 0), or in the file as a whole.
    NotUtf8 {
        /// The cell.
        cell: Option<usize>,
        /// What the file is instead.
        looks_like: &'static str,
    },
}

/// Why there is no next record.
#[derive(Debug)]
pub enum RecordError {
    /// The record that starts on this line is not well-formed.
    Form {
        /// Where it starts.
        line: u64,
        /// What is wrong.
        fault: FormFault,
    },
    /// It could not be read.
    Io(io::Error),
}

impl From<io::Error> for RecordError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// One record, as it lies in the reader's buffer.
#[derive(Debug, Clone, Copy)]
pub struct RawRecord<'a> {
    /// The line on which it starts.
    pub line: u64,
    text: &'a str,
    ends: &'a [usize],
}

impl<'a> RawRecord<'a> {
    /// How many cells it has.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has no cells.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The cell with this index; empty where there is none.
    pub fn cell(&self, index: usize) -> &'a str {
        let Some(&end) = self.ends.get(index) else { return "" };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        self.text.get(start..end).unwrap_or_default()
    }

    /// The cells in order.
    pub fn cells(self) -> impl Iterator<Item = &'a str> {
        (0..self.len()).map(move |index| self.cell(index))
    }
}

/// Cuts a file into records.
pub struct Records<R> {
    source: R,
    buffer: Box<[u8]>,
    unread: std::ops::Range<usize>,
    ended: bool,
    core: csv_core::Reader,
    output: Vec<u8>,
    ends: Vec<usize>,
    lines: LineCounter,
}

impl<R: Read> Records<R> {
    /// Reads from the beginning of a file: its byte order mark is passed over, and UTF-16 is named as such.
    pub fn new(source: R) -> Result<Self, RecordError> {
        let mut records = Self {
            source,
            buffer: vec![0; BUFFER].into(),
            unread: 0..0,
            ended: false,
            core: csv_core::Reader::new(),
            output: vec![0; 4 * 1024],
            ends: vec![0; 64],
            lines: LineCounter::default(),
        };
        records.fill_first_line()?;
        let begin = &records.buffer[records.unread.clone()];
        if let Some(looks_like) = utf16(begin) {
            return Err(RecordError::Form { line: 1, fault: FormFault::NotUtf8 { cell: None, looks_like } });
        }
        if begin.starts_with(UTF8_BOM) {
            records.unread.start += UTF8_BOM.len();
        }
        Ok(records)
    }

    /// The beginning of the file as far as it was read: its first line, unless that is longer than the buffer.
    pub fn beginning(&self) -> &[u8] {
        &self.buffer[self.unread.clone()]
    }

    /// What separates cells. To be said before the first record is read.
    pub fn set_delimiter(&mut self, delimiter: u8) {
        self.core = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
    }

    /// What is read from.
    pub fn source_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// What is read from, at its end.
    pub fn into_source(self) -> R {
        self.source
    }

    /// The next record. After a fault of form the next call goes on behind the faulty record.
    pub fn next_record(&mut self) -> Result<Option<RawRecord<'_>>, RecordError> {
        if !self.skip_blank_lines()? {
            return Ok(None);
        }
        let line = self.lines.line();
        let form = |fault| RecordError::Form { line, fault };
        let (mut written, mut cells) = (0, 0);
        let mut overflow = None;
        loop {
            let at_end = !self.fill()?;
            // At the end of the file one more line end is fed: outside of quotes it ends the record, inside it is
            // swallowed, and that is how an unclosed quote is told from a last line without its end.
            let input: &[u8] = if at_end { b"\n" } else { &self.buffer[self.unread.clone()] };
            let (result, consumed, out, ended) =
                self.core.read_record(input, &mut self.output[written..], &mut self.ends[cells..]);
            if !at_end {
                self.lines.count(&self.buffer[self.unread.start..self.unread.start + consumed]);
                self.unread.start += consumed;
            }
            (written, cells) = (written + out, cells + ended);
            match result {
                ReadRecordResult::Record | ReadRecordResult::End => break,
                ReadRecordResult::InputEmpty if at_end => return Err(form(FormFault::UnclosedQuote)),
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.output.len() < LARGEST_RECORD => {
                    self.output.resize(self.output.len() * 2, 0);
                }
                ReadRecordResult::OutputFull => {
                    // The rest of the record is read and forgotten.
                    (written, cells) = (0, 0);
                    overflow = Some(FormFault::TooLong);
                }
                ReadRecordResult::OutputEndsFull if self.ends.len() < MOST_CELLS => {
                    self.ends.resize(self.ends.len() * 2, 0);
                }
                ReadRecordResult::OutputEndsFull => {
                    (written, cells) = (0, 0);
                    overflow.get_or_insert(FormFault::TooManyCells);
                }
            }
        }
        if let Some(fault) = overflow {
            return Err(form(fault));
        }
        let ends = &self.ends[..cells];
        let text = checked_text(&self.output[..written], ends).map_err(form)?;
        Ok(Some(RawRecord { line, text, ends }))
    }

    /// Passes over line ends; `false` at the end of the file.
    fn skip_blank_lines(&mut self) -> io::Result<bool> {
        loop {
            if !self.fill()? {
                return Ok(false);
            }
            let unread = &self.buffer[self.unread.clone()];
            let blank = unread.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.lines.count(&unread[..blank]);
            let all = blank == unread.len();
            self.unread.start += blank;
            if !all {
                return Ok(true);
            }
        }
    }

    /// Makes sure that something is unread; `false` at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        while self.unread.is_empty() && !self.ended {
            let read = read_retrying(&mut self.source, &mut self.buffer)?;
            self.unread = 0..read;
            self.ended = read == 0;
        }
        Ok(!self.unread.is_empty())
    }

    /// Reads until a line end is in sight, the buffer is full, or the file ends.
    fn fill_first_line(&mut self) -> io::Result<()> {
        while !self.ended && self.unread.end < self.buffer.len() {
            let read = read_retrying(&mut self.source, &mut self.buffer[self.unread.end..])?;
            let new = self.unread.end..self.unread.end + read;
            self.ended = read == 0;
            self.unread.end = new.end;
            if self.buffer[new].iter().any(|byte| matches!(byte, b'\r' | b'\n')) && self.unread.end >= 4 {
                break;
            }
        }
        Ok(())
    }
}

fn read_retrying(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The bytes as text, if every cell by itself is UTF-8.
fn checked_text<'a>(bytes: &'a [u8], ends: &[usize]) -> Result<&'a str, FormFault> {
    let cell_of = |byte: usize| ends.iter().position(|&end| byte < end).unwrap_or(ends.len().saturating_sub(1));
    let not_utf8 = |byte: usize| FormFault::NotUtf8 { cell: Some(cell_of(byte)), looks_like: "Latin-1 or Windows-1252" };
    let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(error.valid_up_to()))?;
    match ends.iter().find(|&&end| !text.is_char_boundary(end)) {
        None => Ok(text),
        Some(&end) => Err(not_utf8(end - 1)),
    }
}

/// Names UTF-16 by its byte order mark, or by its zeros.
fn utf16(begin: &[u8]) -> Option<&'static str> {
    let zeros = |at: usize| begin.iter().skip(at).step_by(2).take(32).filter(|&&byte| byte == 0).count();
    let seen = begin.len().min(64) / 2;
    match begin {
        [0xff, 0xfe, ..] => Some("UTF-16 (little endian)"),
        [0xfe, 0xff, ..] => Some("UTF-16 (big endian)"),
        _ if seen >= 4 && zeros(1) * 4 > seen * 3 => Some("UTF-16 (little endian)"),
        _ if seen >= 4 && zeros(0) * 4 > seen * 3 => Some("UTF-16 (big endian)"),
        _ => None,
    }
}

/// Counts line ends: CR, LF, and CRLF as one, also where the two come in different pieces.
#[derive(Debug, Default)]
struct LineCounter {
    ended: u64,
    after_cr: bool,
}

impl LineCounter {
    fn line(&self) -> u64 {
        self.ended + 1
    }

    fn count(&mut self, bytes: &[u8]) {
        for at in memchr::memchr2_iter(b'\r', b'\n', bytes) {
            let follows_cr = if at == 0 { self.after_cr } else { bytes[at - 1] == b'\r' };
            self.ended += u64::from(!(bytes[at] == b'\n' && follows_cr));
        }
        if let Some(&last) = bytes.last() {
            self.after_cr = last == b'\r';
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives a few bytes at a time.
    struct Dripping<'a>(&'a [u8], usize);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.0.len().min(self.1).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    type Read1 = Result<Vec<(u64, Vec<String>)>, (u64, FormFault)>;

    fn read(bytes: &[u8], piece: usize) -> Read1 {
        let form = |error| match error {
            RecordError::Form { line, fault } => (line, fault),
            RecordError::Io(error) => panic!("{error}"),
        };
        let mut records = Records::new(Dripping(bytes, piece)).map_err(form)?;
        let mut all = Vec::new();
        while let Some(record) = records.next_record().map_err(form)? {
            all.push((record.line, record.cells().map(str::to_owned).collect()));
        }
        Ok(all)
    }

    fn lines(text: &str) -> Vec<u64> {
        read(text.as_bytes(), 3).expect("well-formed").into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn lines_are_counted_for_every_kind_of_line_end() {
        assert_eq!(lines("a,b\n1,2\n3,4\n"), [1, 2, 3]);
        assert_eq!(lines("a,b\r\n1,2\r\n3,4"), [1, 2, 3]);
        assert_eq!(lines("a,b\r1,2\r3,4\r"), [1, 2, 3]);
        assert_eq!(lines("a,b\n\n\n1,2\r\n\r\n3,4\n\n\n"), [1, 4, 6]);
        assert_eq!(lines("a,b\n\"x\ny\r\nz\",2\n3,4\n"), [1, 2, 5]);
    }

    #[test]
    fn an_unclosed_quote_is_told_with_the_line_of_its_row() {
        for text in ["a,b\n1,2\n\"x,3\n4,5\n", "a,b\n1,2\n\"", "a,b\n1,2\n3,\"x\n\n", "a,b\n1,2\n3,\"x\"\""] {
            assert_eq!(read(text.as_bytes(), 5), Err((3, FormFault::UnclosedQuote)), "{text:?}");
        }
        for text in ["a,b\n1,\"2\"", "a,b\n1,\"\"\"\"", "a,b\n1,5\" pipe\n"] {
            assert!(read(text.as_bytes(), 5).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn a_record_that_is_too_long_is_told_and_passed_over() {
        let text = format!("a\n{}\nz\n", "x".repeat(LARGEST_RECORD + 1));
        let mut records = Records::new(text.as_bytes()).expect("UTF-8");
        records.next_record().expect("the header");
        assert!(matches!(records.next_record(), Err(RecordError::Form { line: 2, fault: FormFault::TooLong })));
        let last = records.next_record().expect("well-formed").expect("one more");
        assert_eq!((last.line, last.cell(0)), (3, "z"));
    }

    #[test]
    fn other_encodings_are_named() {
        let utf16 = |text: &str, mark: bool| -> Vec<u8> {
            let mark = mark.then_some(0xfeff_u16);
            mark.into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
        };
        for bytes in [utf16("email,name\n", true), utf16("email,name\n", false)] {
            let fault = FormFault::NotUtf8 { cell: None, looks_like: "UTF-16 (little endian)" };
            assert_eq!(read(&bytes, 7), Err((1, fault)));
        }
        let latin = b"a,b\n1,2\nx,Jos\xe9\n";
        let fault = FormFault::NotUtf8 { cell: Some(1), looks_like: "Latin-1 or Windows-1252" };
        assert_eq!(read(latin, 4), Err((3, fault)));
        // Two cells that are UTF-8 only when they are put together.
        assert!(read(b"a,b\n\xc3,\xa9\n", 64).is_err());
        assert_eq!(read(b"\xef\xbb\xbfa,b\n", 2).expect("a byte order mark"), [(1, vec!["a".into(), "b".into()])]);
    }

    proptest! {
        #[test]
        fn what_csv_writes_is_read_back(
            rows in prop::collection::vec(prop::collection::vec("[a-z\"\n\r, é]{1,6}", 2), 1..12),
            piece in 1_usize..40,
        ) {
            let mut writer = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).expect("memory");
            }
            let bytes = writer.into_inner().expect("memory");
            let read: Vec<_> = read(&bytes, piece).expect("well-formed").into_iter().map(|(_, cells)| cells).collect();
            prop_assert_eq!(read, rows);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), piece in 1_usize..40) {
            let _ = read(&bytes, piece);
        }
    }
}
