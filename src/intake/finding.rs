//! What is wrong with a file: where, what, and what to do. Never a cell's content.

use serde::Serialize;

/// The findings of a file that are told; all are counted.
pub const FINDINGS_TOLD: usize = 100;

/// The kind of a finding, in a word that programs can rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "they are the interface's own words")]
pub enum FindingCode {
    EmptyFile,
    BadGzip,
    NotUtf8,
    MissingColumn,
    UnknownColumn,
    DuplicateColumn,
    NoRows,
    TooManyRows,
    WrongFieldCount,
    UnclosedQuote,
    FieldTooLong,
    MissingValue,
    InvalidValue,
    DuplicateValue,
}

impl FindingCode {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EmptyFile => "empty_file",
            Self::BadGzip => "bad_gzip",
            Self::NotUtf8 => "not_utf8",
            Self::MissingColumn => "missing_column",
            Self::UnknownColumn => "unknown_column",
            Self::DuplicateColumn => "duplicate_column",
            Self::NoRows => "no_rows",
            Self::TooManyRows => "too_many_rows",
            Self::WrongFieldCount => "wrong_field_count",
            Self::UnclosedQuote => "unclosed_quote",
            Self::FieldTooLong => "field_too_long",
            Self::MissingValue => "missing_value",
            Self::InvalidValue => "invalid_value",
            Self::DuplicateValue => "duplicate_value",
        }
    }
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The line on which the record starts; the header is line 1.
    pub line: u64,
    /// The column's name.
    pub column: Option<String>,
    /// The column's place in the file, from 1.
    pub column_number: Option<u32>,
    /// The kind of fault.
    pub code: FindingCode,
    /// What was expected, and what to do.
    pub message: String,
}

impl Finding {
    /// Of a line as a whole.
    pub fn of_line(line: u64, code: FindingCode, message: impl Into<String>) -> Self {
        Self { line, column: None, column_number: None, code, message: message.into() }
    }

    /// Of one cell; `index` counts the file's columns from 0.
    pub fn of_cell(line: u64, column: &str, index: usize, code: FindingCode, message: impl Into<String>) -> Self {
        let column_number = u32::try_from(index + 1).ok();
        Self { line, column: Some(column.to_owned()), column_number, code, message: message.into() }
    }

    fn place(&self) -> (u64, Option<u32>) {
        (self.line, self.column_number)
    }
}

/// The first findings of a file by place, and how many there are in all. They may come in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    first: Vec<Finding>,
    count: u64,
}

impl Report {
    /// A report of just these.
    pub fn of(findings: Vec<Finding>) -> Self {
        let mut report = Self::default();
        findings.into_iter().for_each(|finding| report.add(finding));
        report
    }

    /// Counts a finding, and keeps it if it is among the first.
    pub fn add(&mut self, finding: Finding) {
        self.count += 1;
        let at = self.first.partition_point(|kept| kept.place() <= finding.place());
        if at < FINDINGS_TOLD {
            self.first.truncate(FINDINGS_TOLD - 1);
            self.first.insert(at, finding);
        }
    }

    /// The first ones, in the file's order.
    pub fn first(&self) -> &[Finding] {
        &self.first
    }

    /// All of them.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_first_by_place_and_counts_all() {
        let mut report = Report::default();
        for line in (1..=250).rev() {
            report.add(Finding::of_line(line, FindingCode::WrongFieldCount, ""));
        }
        assert_eq!(report.count(), 250);
        let lines: Vec<u64> = report.first().iter().map(|finding| finding.line).collect();
        assert_eq!(lines, (1..=100).collect::<Vec<_>>());
    }
}
