//! What is wrong with a file: findings, told as they are found, of which the first are kept and all are counted.
//!
//! Knows nothing of how they are shown. No finding holds a cell's content: what stands in a file is private, and the
//! place is enough to find it.

use std::io;

/// What is wrong, in a word that programs can rely on.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case", const_into_str)]
#[serde(rename_all = "snake_case")]
pub enum FindingCode {
    /// Nothing stands in the file.
    EmptyFile,
    /// It was said to be gzip, and is not, or is broken or cut off.
    BadGzip,
    /// The text is in another encoding.
    NotUtf8,
    /// The header lacks a column that the workflow requires.
    MissingColumn,
    /// The header has a column that the workflow does not know.
    UnknownColumn,
    /// Two columns of the header mean the same.
    DuplicateColumn,
    /// No row, or no valid one, stands below the header.
    NoRows,
    /// More rows than the workflow takes.
    TooManyRows,
    /// A row has more or fewer fields than the header.
    WrongFieldCount,
    /// A quote is opened and the file ends before it is closed.
    UnclosedQuote,
    /// A cell, or a whole row, is longer than allowed.
    FieldTooLong,
    /// A required cell is empty.
    MissingValue,
    /// A cell is not what its column asks for.
    InvalidValue,
    /// A cell of a unique column repeats one further up.
    DuplicateValue,
}

impl FindingCode {
    /// Every code.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// As the schema and the API spell it.
    pub fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// A code and a sentence, not yet at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind of fault.
    pub code: FindingCode,
    /// What is wrong and what was expected, for a person; never a cell's content.
    pub message: String,
}

impl Fault {
    pub(super) fn new(code: FindingCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The fault of a whole line.
    pub(super) fn at_line(self, line: u64) -> Finding {
        Finding { line, column: None, column_number: None, code: self.code, message: self.message }
    }

    /// The fault of one column of a line; `position` counts from 0.
    pub(super) fn at_cell(self, line: u64, column: &str, position: usize) -> Finding {
        let column_number = u32::try_from(position + 1).ok();
        Finding { line, column: Some(column.to_owned()), column_number, code: self.code, message: self.message }
    }
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The line on which the row starts; the header's is usually 1.
    pub line: u64,
    /// The column's name as the file has it (a missing column's as the workflow has it).
    pub column: Option<String>,
    /// The column's place in the file, from 1.
    pub column_number: Option<u32>,
    /// The kind of fault.
    pub code: FindingCode,
    /// What is wrong and what was expected, for a person.
    pub message: String,
}

impl Finding {
    fn place(&self) -> (u64, Option<u32>) {
        (self.line, self.column_number)
    }
}

/// The findings of a file that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The first [`Report::MOST_KEPT`], by line and column.
    pub findings: Vec<Finding>,
    /// How many there are altogether.
    pub count: u64,
}

impl Report {
    /// So many findings are kept; the rest are only counted, so that a hopeless file costs no memory.
    pub const MOST_KEPT: usize = 100;
}

/// Who hears of every finding as it is made; an error stops the pass.
pub type Listener<'a> = dyn FnMut(&Finding) -> io::Result<()> + 'a;

/// Counts findings, keeps the first ones, and passes all of them on.
pub(super) struct Findings<'a> {
    report: Report,
    listener: &'a mut Listener<'a>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(listener: &'a mut Listener<'a>) -> Self {
        Self { report: Report { findings: Vec::new(), count: 0 }, listener }
    }

    /// Takes one more finding, in any order.
    pub(super) fn add(&mut self, finding: Finding) -> io::Result<()> {
        (self.listener)(&finding)?;
        let Report { findings, count } = &mut self.report;
        *count += 1;
        let at = findings.partition_point(|kept| kept.place() <= finding.place());
        if at < Report::MOST_KEPT {
            findings.insert(at, finding);
            findings.truncate(Report::MOST_KEPT);
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.report.count == 0
    }

    pub(super) fn into_report(self) -> Report {
        self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_first_by_place_and_counts_all() {
        let mut heard = 0;
        let mut listener = |_: &Finding| {
            heard += 1;
            Ok(())
        };
        let mut findings = Findings::new(&mut listener);
        for line in (2..=201).rev() {
            let fault = Fault::new(FindingCode::MissingValue, "a value is required");
            findings.add(fault.at_cell(line, "email", 0)).unwrap();
        }
        findings.add(Fault::new(FindingCode::WrongFieldCount, "6 fields").at_line(2)).unwrap();
        let report = findings.into_report();
        assert_eq!((report.count, heard, report.findings.len()), (201, 201, Report::MOST_KEPT));
        assert_eq!(
            report.findings[0].code,
            FindingCode::WrongFieldCount,
            "a line's own finding comes before its cells'"
        );
        assert_eq!(report.findings[99].line, 100);
    }

    #[test]
    fn codes_are_spelt_alike_everywhere() {
        for &code in FindingCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
