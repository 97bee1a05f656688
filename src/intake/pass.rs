//! The pass over an upload: every byte decoded, stored, parsed and checked once.
//!
//! What a file is refused for falls into two kinds. Faults behind which nothing can be understood end the pass at once:
//! the encoding, the header, too many rows, a quote that is never closed. Those of single rows do not: the file is read
//! to its end, so that a person hears of all of them in one go; or, where the workflow says so, the rows are skipped.

use std::{
    collections::HashSet,
    io::{self, Read, Write},
    path::Path,
};

use super::{
    check,
    decode::{Broken, Decoder},
    encoding,
    finding::{Fault, Finding, FindingCode, Findings, Listener, Report},
    header::{Delimiter, Header, HeaderColumn, Role, told},
    layout::{self, Layout, Provenance},
    records::{MAX_FIELDS, MAX_RECORD_BYTES, Record, RecordError, Records},
    rules::Rules,
    sorter,
    unique::{Duplicate, Sighting, Unique},
};
use crate::model::workflow::OnInvalidRow;

/// What the caller says of one upload.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The input is gzip (`Content-Encoding: gzip`).
    pub gzip: bool,
    /// Where large files' unique values are sorted, as digests, in files without a name.
    pub spool_dir: &'a Path,
}

/// A file that a batch can be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its first record, needed to read it again.
    pub header: Header,
    /// Its valid rows.
    pub rows: u64,
    /// The rows that were left out, by `on_invalid_row = "skip"`; the listener heard of each.
    pub skipped: u64,
    /// Its size, inflated.
    pub bytes: u64,
    /// The SHA-256 of its bytes, inflated.
    pub sha256: [u8; 32],
    /// What a person might want to know, in sentences.
    pub warnings: Vec<String>,
}

/// Why no batch comes of an upload. Whatever the tee was given is then worth nothing.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The file is not what the workflow asks for.
    #[error("the file has {} faults", .0.count)]
    Invalid(Report),
    /// The file has more bytes than the workflow takes.
    #[error("the file is larger than {max_bytes} bytes")]
    TooLarge {
        /// The workflow's limit, of inflated bytes.
        max_bytes: u64,
    },
    /// The upload broke off.
    #[error("the upload could not be read to its end")]
    Read(#[source] io::Error),
    /// The tee refused bytes.
    #[error("the file could not be stored")]
    Tee(#[source] io::Error),
    /// The spool folder or the listener failed.
    #[error("the file could not be checked")]
    Spool(#[source] io::Error),
}

/// Reads an upload to its end and says what came of it.
///
/// `tee` gets the exact bytes of the inflated file. It is dropped at the first finding that refuses the file, while the
/// pass goes on to count the others: what is dropped early can stop storing early. Its errors end the pass at once.
///
/// `listener` hears of every finding: those of rows in the file's order, then the values that repeat earlier ones, in
/// the file's order again, since they are known only at the end. Where invalid rows are skipped, the lines that it
/// hears of are those that extraction has to leave out.
pub fn run(
    input: impl Read,
    rules: &Rules,
    options: Options,
    tee: impl Write,
    listener: &mut Listener,
) -> Result<Accepted, Refused> {
    let mut findings = Findings::new(listener);
    let mut records = Records::new(Decoder::new(input, options.gzip, rules.max_bytes, tee), b',');
    let verdict = open(&mut records, rules).and_then(|header| {
        let unique = Unique::new(options.spool_dir.to_owned(), sorter::RUN_ENTRIES);
        Pass::new(rules, &header, &mut findings, unique).run(&mut records).map(|tally| (header, tally))
    });
    match verdict {
        Ok((header, Tally { rows, skipped })) => {
            let warnings = warnings(&header, rules, skipped);
            let (bytes, sha256) = records.into_source().finish();
            Ok(Accepted { header, rows, skipped, bytes, sha256, warnings })
        }
        Err(Stop::Refused(refused)) => Err(refused),
        Err(Stop::Invalid(last)) => {
            for finding in last {
                findings.add(finding).map_err(Refused::Spool)?;
            }
            Err(Refused::Invalid(findings.into_report()))
        }
    }
}

/// The SHA-256 of an upload's inflated bytes, read to its end with nothing of it checked or stored.
pub fn sha256(input: impl Read, rules: &Rules, gzip: bool) -> Result<[u8; 32], Refused> {
    let mut decoder = Decoder::new(input, gzip, rules.max_bytes, io::sink());
    match io::copy(&mut decoder, &mut io::sink()) {
        Ok(_) => Ok(decoder.finish().1),
        Err(error) => Err(match Stop::broken(error, 1) {
            Stop::Refused(refused) => refused,
            Stop::Invalid(findings) => Refused::Invalid(Report { count: findings.len() as u64, findings }),
        }),
    }
}

/// Why a pass ends early.
enum Stop {
    /// With these findings, besides those made before.
    Invalid(Vec<Finding>),
    Refused(Refused),
}

impl Stop {
    fn fault(code: FindingCode, message: impl Into<String>, line: u64) -> Self {
        Self::Invalid(vec![Fault::new(code, message).at_line(line)])
    }

    fn spool(error: io::Error) -> Self {
        Self::Refused(Refused::Spool(error))
    }

    /// The upload cannot be read behind this line.
    fn broken(error: io::Error, line: u64) -> Self {
        Self::Refused(match Broken::of(error) {
            Broken::Gzip => {
                return Self::fault(FindingCode::BadGzip, "the upload is not gzip, or broken or cut off", line);
            }
            Broken::TooLarge { max_bytes } => Refused::TooLarge { max_bytes },
            Broken::Read(error) => Refused::Read(error),
            Broken::Tee(error) => Refused::Tee(error),
        })
    }

    /// A record cannot be had, and what comes behind it cannot be either.
    fn record(error: RecordError, line: u64, columns: &[HeaderColumn]) -> Self {
        match error {
            RecordError::Read(error) => Self::broken(error, line),
            RecordError::TooLong { line } => Self::Invalid(vec![too_long(line)]),
            RecordError::UnclosedQuote { line } => {
                let message = "a quote (\") that opens a field of this row is never closed";
                Self::fault(FindingCode::UnclosedQuote, message, line)
            }
            RecordError::NotUtf8 { line, position } => {
                let name = columns.get(position).map(|column| told(&column.name));
                let finding = encoding::not_utf8().at_cell(line, "", position);
                Self::Invalid(vec![Finding { column: name, ..finding }])
            }
        }
    }
}

fn too_long(line: u64) -> Finding {
    let message = format!("the row is longer than {MAX_RECORD_BYTES} bytes; is a quote (\") in it never closed?");
    Fault::new(FindingCode::FieldTooLong, message).at_line(line)
}

/// Looks at the beginning of a file, and understands its header.
fn open<R: Read>(records: &mut Records<R>, rules: &Rules) -> Result<Header, Stop> {
    let start = records.peek().map_err(|error| Stop::broken(error, 1))?;
    encoding::recognise(start).map_err(|fault| Stop::Invalid(vec![fault.at_line(1)]))?;
    let delimiter = Delimiter::find_out(start, rules);
    let is_protected = Header::is_protected(start, delimiter);
    records.set_delimiter(delimiter.as_byte());
    match records.read() {
        Ok(Some(record)) => Header::understand(&record, delimiter, is_protected, rules).map_err(Stop::Invalid),
        Ok(None) => Err(Stop::fault(FindingCode::EmptyFile, "the file is empty; a header and rows were expected", 1)),
        Err(error) => Err(Stop::record(error, 1, &[])),
    }
}

fn warnings(header: &Header, rules: &Rules, skipped: u64) -> Vec<String> {
    let mut warnings = Vec::new();
    if header.delimiter != Delimiter::Comma {
        warnings.push(format!("The fields are taken to be separated by the {} character.", header.delimiter));
    }
    let present: HashSet<_> = header.kept().map(HeaderColumn::template_name).collect();
    for check in rules.checks.iter().filter(|check| !present.contains(check.name.as_str())) {
        warnings.push(format!("There is no column {}; it is taken to be empty in every row.", check.name));
    }
    if skipped > 0 {
        warnings.push(format!("{skipped} invalid rows are left out."));
    }
    warnings
}

/// The rows of a file that is good so far.
#[derive(Debug, Clone, Copy)]
struct Tally {
    rows: u64,
    skipped: u64,
}

/// The checks of a file's rows, one after the other.
struct Pass<'a, 'l> {
    rules: &'a Rules,
    header: &'a Header,
    layout: Layout,
    /// For every kept column its place in the file, and its check unless it is an extra one.
    checks: Vec<(usize, Option<&'a check::Check>)>,
    findings: &'a mut Findings<'l>,
    unique: Unique,
    /// The unique values of the row at hand.
    sightings: Vec<Sighting>,
}

impl<'a, 'l> Pass<'a, 'l> {
    fn new(rules: &'a Rules, header: &'a Header, findings: &'a mut Findings<'l>, unique: Unique) -> Self {
        let layout = Layout::of(header);
        let check = |place: &usize| match header.columns.get(*place).map(|column| &column.role) {
            Some(Role::Workflow(name)) => (*place, rules.checks.iter().find(|check| check.name == *name)),
            _ => (*place, None),
        };
        let checks = layout.kept.iter().map(check).collect();
        Self { rules, header, layout, checks, findings, unique, sightings: Vec::new() }
    }

    fn run<R: Read, W: Write>(mut self, records: &mut Records<Decoder<R, W>>) -> Result<Tally, Stop> {
        let skips = self.rules.on_invalid_row == OnInvalidRow::Skip;
        let (mut seen, mut skipped) = (0, 0);
        loop {
            let reached = records.line();
            let is_valid = match records.read() {
                Ok(None) => break,
                Ok(Some(record)) if seen < self.rules.max_rows => self.row(&record, skips).map_err(Stop::spool)?,
                Ok(Some(Record { line, .. })) => {
                    let message = format!("the file has more than {} rows", self.rules.max_rows);
                    return Err(Stop::fault(FindingCode::TooManyRows, message, line));
                }
                Err(RecordError::TooLong { line }) => {
                    self.findings.add(too_long(line)).map_err(Stop::spool)?;
                    false
                }
                Err(error) => return Err(Stop::record(error, reached, &self.header.columns)),
            };
            seen += 1;
            if !is_valid && skips {
                skipped += 1;
            } else if !is_valid {
                records.source_mut().drop_tee();
            }
        }
        skipped += tell_duplicates(self.unique, self.header, self.findings).map_err(Stop::spool)?;
        match (seen - skipped, skipped) {
            _ if !skips && !self.findings.is_empty() => Err(Stop::Invalid(Vec::new())),
            (0, 0) => Err(Stop::fault(FindingCode::NoRows, "no row stands below the header", 1)),
            (0, _) => Err(Stop::fault(FindingCode::NoRows, "no row below the header is valid", 1)),
            (rows, skipped) => Ok(Tally { rows, skipped }),
        }
    }

    /// Checks one row; true when it is valid.
    fn row(&mut self, record: &Record, skips: bool) -> io::Result<bool> {
        if record.width() != self.layout.width {
            self.findings.add(wrong_field_count(record, self.layout.width))?;
            return Ok(false);
        }
        let mut is_valid = true;
        let provenance = match self.layout.provenance(record) {
            Ok(provenance) => provenance,
            Err((place, fault)) => {
                self.tell(record.line, place, fault)?;
                is_valid = false;
                Provenance::default()
            }
        };
        self.sightings.clear();
        for index in 0..self.checks.len() {
            is_valid &= self.cell(record, provenance, self.checks[index])?;
        }
        // A row that is left out cannot make a later one a duplicate.
        if is_valid || !skips {
            self.sightings.iter().try_for_each(|sighting| self.unique.add(*sighting))?;
        }
        Ok(is_valid)
    }

    fn cell(
        &mut self,
        record: &Record,
        provenance: Provenance,
        (place, check): (usize, Option<&check::Check>),
    ) -> io::Result<bool> {
        let cell = layout::cell(*record, place, provenance);
        let fault = match check {
            _ if record.has_nul() && cell.contains('\0') => Some(check::nul()),
            Some(check) => check.cell(&cell).err(),
            None => None,
        };
        if let Some(fault) = fault {
            self.tell(record.line, place, fault)?;
            return Ok(false);
        }
        if let Some(check) = check.filter(|check| check.unique && !check::is_missing(&cell)) {
            self.sightings.push(self.unique.sight(record.line, place, &cell, check.ignores_case()));
        }
        Ok(true)
    }

    fn tell(&mut self, line: u64, place: usize, fault: Fault) -> io::Result<()> {
        self.findings.add(fault.at_cell(line, &name_at(self.header, place), place))
    }
}

/// Tells every value that stood further up, and returns how many rows that makes.
fn tell_duplicates(unique: Unique, header: &Header, findings: &mut Findings) -> io::Result<u64> {
    let mut duplicates = unique.finish()?;
    let (mut rows, mut last_line) = (0, None);
    while let Some(Duplicate { line, position, first_line }) = duplicates.next()? {
        let fault = Fault::new(FindingCode::DuplicateValue, format!("the value stands in line {first_line} already"));
        findings.add(fault.at_cell(line, &name_at(header, position), position))?;
        rows += u64::from(last_line.replace(line) != Some(line));
    }
    Ok(rows)
}

fn name_at(header: &Header, place: usize) -> String {
    header.columns.get(place).map(|column| told(&column.name)).unwrap_or_default()
}

fn wrong_field_count(record: &Record, expected: usize) -> Finding {
    let found = match record.width() {
        width if width > MAX_FIELDS => format!("more than {MAX_FIELDS}"),
        width => width.to_string(),
    };
    let message = format!("the row has {found} fields, the header {expected}");
    Fault::new(FindingCode::WrongFieldCount, message).at_line(record.line)
}
