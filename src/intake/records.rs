//! The records of a CSV file (RFC 4180, read as leniently as spreadsheets write it), each with the line it starts on.
//!
//! A record is a slice of one buffer that is used again and again: nothing is allocated for a row, and nothing grows
//! beyond [`MAX_RECORD_BYTES`], whatever the file says. Values are kept exactly, blank lines are passed over but
//! counted, and CR, LF and CRLF each end a line. Knows nothing of what a record means.

use std::{io, io::Read, ops::Range};

use csv_core::{ReadRecordResult, ReaderBuilder, Terminator};

/// The most columns that a file can have.
pub const MAX_FIELDS: usize = 1_000;
/// The most bytes that the cells of one record can have together.
pub const MAX_RECORD_BYTES: usize = 1 << 20;
/// So much is read at once; the header should fit, for its delimiter to be found out.
const INPUT_BYTES: usize = 64 << 10;
const FIRST_RECORD_BYTES: usize = 8 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why the next record cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Longer than [`MAX_RECORD_BYTES`]. Reading can go on with the record behind it.
    #[error("the record on line {line} is too long")]
    TooLong { line: u64 },
    /// The field at `position` (from 0) is not UTF-8.
    #[error("line {line} is not UTF-8")]
    NotUtf8 { line: u64, position: usize },
    /// The file ends inside a quoted field of the record that starts on this line.
    #[error("a quote opened in the record on line {line} is never closed")]
    UnclosedQuote { line: u64 },
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// One record, until the next is read.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The line it starts on, from 1.
    pub line: u64,
    text: &'a str,
    ends: &'a [usize],
    has_nul: bool,
}

impl<'a> Record<'a> {
    /// A record of which only the line is known.
    pub(super) fn empty(line: u64) -> Self {
        Self { line, text: "", ends: &[], has_nul: false }
    }

    /// How many fields it has; [`MAX_FIELDS`] + 1 stands for any number beyond.
    pub fn width(&self) -> usize {
        self.ends.len()
    }

    /// The field at `position`, from 0; one that is not there is empty.
    pub fn field(&self, position: usize) -> &'a str {
        self.text.get(range(self.ends, position)).unwrap_or_default()
    }

    /// All fields, in order.
    pub fn fields(self) -> impl Iterator<Item = &'a str> {
        (0..self.width()).map(move |position| self.field(position))
    }

    /// Whether any field holds a NUL byte.
    pub fn has_nul(&self) -> bool {
        self.has_nul
    }
}

fn range(ends: &[usize], position: usize) -> Range<usize> {
    let start = position.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    start..ends.get(position).copied().unwrap_or(start)
}

/// Reads records from a file of UTF-8, with or without a byte order mark.
pub struct Records<R> {
    source: R,
    parser: csv_core::Reader,
    begun: bool,
    input: Box<[u8]>,
    /// The part of `input` that is not parsed yet.
    unread: Range<usize>,
    /// The cells of the record, without quotes and delimiters between them.
    text: Vec<u8>,
    /// Where in `text` each cell ends; one place more than there can be columns, so that too many are noticed.
    ends: Box<[usize]>,
    /// The line of the next unread byte.
    line: u64,
    /// The last byte was a CR: an LF now belongs to it.
    after_cr: bool,
}

impl<R: Read> Records<R> {
    /// Records whose fields are separated by `delimiter`.
    pub fn new(source: R, delimiter: u8) -> Self {
        Self {
            source,
            parser: parser(delimiter),
            begun: false,
            input: vec![0; INPUT_BYTES].into(),
            unread: 0..0,
            text: vec![0; FIRST_RECORD_BYTES],
            ends: vec![0; MAX_FIELDS + 1].into(),
            line: 1,
            after_cr: false,
        }
    }

    /// Looks at the beginning of the file (behind a byte order mark, up to 64 KiB), before the first record is read.
    pub fn peek(&mut self) -> io::Result<&[u8]> {
        self.begin()?;
        Ok(&self.input[self.unread.clone()])
    }

    /// Changes the delimiter, before the first record is read.
    pub fn set_delimiter(&mut self, delimiter: u8) {
        self.parser = parser(delimiter);
    }

    /// The line that reading has come to.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Where the bytes come from.
    pub fn source_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// Gives back where the bytes came from.
    pub fn into_source(self) -> R {
        self.source
    }

    /// The next record; `None` at the end of the file.
    pub fn read(&mut self) -> Result<Option<Record<'_>>, RecordError> {
        self.begin()?;
        if !self.skip_blank_lines()? {
            return Ok(None);
        }
        let line = self.line;
        let (mut written, mut fields, mut too_long) = (0, 0, false);
        loop {
            // csv-core takes a file that ends inside quotes for whole. So the last record is always ended by a line
            // feed: where that does not end it, it was taken for a part of a quoted field.
            let at_end = self.unread.is_empty() && !self.fill()?;
            let input = if at_end { b"\n" } else { &self.input[self.unread.clone()] };
            let (result, consumed, output, ended) =
                self.parser.read_record(input, &mut self.text[written..], &mut self.ends[fields..]);
            written += output;
            fields += ended;
            // A line that ends inside a record does so between quotes, and the closing one is then a byte that becomes
            // neither text nor the end of a field. Most records have none, and need not be searched for line ends.
            let is_one_line = result == ReadRecordResult::Record && consumed == output + ended;
            match at_end {
                true => {}
                false if is_one_line => self.consume_line(consumed),
                false => self.consume(consumed),
            }
            match result {
                ReadRecordResult::Record => break,
                ReadRecordResult::OutputFull if self.text.len() < MAX_RECORD_BYTES => {
                    self.text.resize((self.text.len() * 2).min(MAX_RECORD_BYTES), 0);
                }
                ReadRecordResult::OutputFull => {
                    // It is read to its end all the same, to know where the next one begins.
                    too_long = true;
                    written = 0;
                }
                ReadRecordResult::OutputEndsFull => fields = MAX_FIELDS,
                ReadRecordResult::InputEmpty | ReadRecordResult::End if at_end => {
                    return Err(RecordError::UnclosedQuote { line });
                }
                ReadRecordResult::InputEmpty | ReadRecordResult::End => {}
            }
        }
        if too_long {
            return Err(RecordError::TooLong { line });
        }
        record(line, &self.text[..written], &self.ends[..fields]).map(Some)
    }

    /// Fills the input for the first time, to the brim, and drops a byte order mark.
    fn begin(&mut self) -> io::Result<()> {
        if self.begun {
            return Ok(());
        }
        while self.unread.end < self.input.len() {
            match self.source.read(&mut self.input[self.unread.end..]) {
                Ok(0) => break,
                Ok(read) => self.unread.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.input[self.unread.clone()].starts_with(BYTE_ORDER_MARK) {
            self.unread.start = BYTE_ORDER_MARK.len();
        }
        self.begun = true;
        Ok(())
    }

    /// Reads more once all is parsed; false at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        loop {
            match self.source.read(&mut self.input) {
                Ok(read) => {
                    self.unread = 0..read;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Goes to the first byte of the next record; false when there is none.
    fn skip_blank_lines(&mut self) -> io::Result<bool> {
        loop {
            let unread = &self.input[self.unread.clone()];
            let blank = unread.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            let all_blank = blank == unread.len();
            self.consume(blank);
            if !all_blank {
                return Ok(true);
            }
            if !self.fill()? {
                return Ok(false);
            }
        }
    }

    /// Takes bytes off the input, and counts the lines that end in them.
    fn consume(&mut self, bytes: usize) {
        let start = self.unread.start;
        self.unread.start += bytes;
        for &byte in &self.input[start..self.unread.start] {
            self.line += u64::from(byte == b'\r' || byte == b'\n' && !self.after_cr);
            self.after_cr = byte == b'\r';
        }
    }

    /// Takes bytes off the input of which only the last ends a line.
    fn consume_line(&mut self, bytes: usize) {
        self.unread.start += bytes;
        self.line += 1;
        self.after_cr = self.input[..self.unread.start].ends_with(b"\r");
    }
}

fn parser(delimiter: u8) -> csv_core::Reader {
    ReaderBuilder::new().delimiter(delimiter).terminator(Terminator::CRLF).build()
}

/// The bytes of a record as text. Each field is looked at by itself where the whole is not sound: two halves of a
/// character on either side of a delimiter make no character.
fn record<'a>(line: u64, bytes: &'a [u8], ends: &'a [usize]) -> Result<Record<'a>, RecordError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if ends.iter().all(|&end| text.is_char_boundary(end)) => {
            Ok(Record { line, text, ends, has_nul: bytes.contains(&0) })
        }
        _ => {
            let is_broken = |position: &usize| {
                bytes.get(range(ends, *position)).is_none_or(|field| std::str::from_utf8(field).is_err())
            };
            let position = (0..ends.len()).find(is_broken).unwrap_or(0);
            Err(RecordError::NotUtf8 { line, position })
        }
    }
}
