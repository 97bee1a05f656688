//! A column's check, compiled once and asked of a million cells.
//!
//! It sees one cell at a time and answers with what was expected, never with what stood there. Whether a value is
//! unique in its file is not seen from here.

mod kind;
mod postcode;

use kind::Kind;

use super::finding::{Fault, FindingCode};
use crate::model::{Column, ColumnKind};

/// Why a column cannot be checked as configured; each names the key at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The regular expression is not one, or would take too much memory.
    #[error("`pattern` is not a usable regular expression: {0}")]
    Pattern(String),
    /// The strftime format does not make a calendar date.
    #[error("`format` does not describe a calendar date: {0}")]
    DateFormat(String),
    /// Nothing is known of this country's postal codes.
    #[error(
        "`country` is `{country}`, but the postal codes known are those of {known}; leave it out for any country's"
    )]
    Country {
        /// As configured.
        country: String,
        /// The countries that would do.
        known: String,
    },
    /// An enum that nothing can satisfy.
    #[error("`values` is empty")]
    NoValues,
}

/// A compiled column.
#[derive(Debug)]
pub struct Check {
    /// The column's name in the workflow.
    pub name: String,
    /// Whether the column must be there, and its cells hold a value.
    pub required: bool,
    /// Whether no two rows may have the same value.
    pub unique: bool,
    max_length: usize,
    kind: Kind,
}

/// Makes a column's check, or says what is wrong with its configuration.
pub fn compile(column: &Column) -> Result<Check, CompileError> {
    Ok(Check {
        name: column.name.clone(),
        required: column.required,
        unique: column.unique,
        max_length: column.max_length,
        kind: Kind::compile(&column.kind)?,
    })
}

/// A postal code of the column's country, or of any.
pub(super) fn example_postcode(column: &Column) -> String {
    let country = match &column.kind {
        ColumnKind::Postcode { country: Some(country) } => country,
        _ => "GB",
    };
    postcode::Shape::of(country).map(|shape| shape.example.to_owned()).unwrap_or_default()
}

/// A date in this form, or as ISO 8601.
pub(super) fn example_date(format: Option<&str>) -> String {
    kind::A_DATE.strftime(format.unwrap_or("%Y-%m-%d")).to_string()
}

/// Whether a cell counts as empty.
pub(super) fn is_missing(cell: &str) -> bool {
    cell.chars().all(char::is_whitespace)
}

impl Check {
    /// Whether the cell is what the column asks for. A cell without a value is fine where none is required.
    pub fn cell(&self, cell: &str) -> Result<(), Fault> {
        if is_missing(cell) {
            return if self.required { Err(missing()) } else { Ok(()) };
        }
        // No text has more characters than bytes, so most cells need no counting.
        if cell.len() > self.max_length && cell.chars().count() > self.max_length {
            let message = format!("the value is longer than {} characters", self.max_length);
            return Err(Fault::new(FindingCode::FieldTooLong, message));
        }
        if self.kind.accepts(cell) { Ok(()) } else { Err(self.unexpected(cell)) }
    }

    /// Whether `unique` means the same for both cases of a letter.
    pub(super) fn ignores_case(&self) -> bool {
        matches!(self.kind, Kind::Email)
    }

    fn unexpected(&self, cell: &str) -> Fault {
        let expected = self.kind.expected();
        let trimmed = cell.trim();
        // It cannot be seen in a spreadsheet, so it is worth being told.
        let hint = if trimmed.len() < cell.len() && self.kind.accepts(trimmed) {
            "; there is white space before or after the value"
        } else {
            ""
        };
        Fault::new(FindingCode::InvalidValue, format!("expected {expected}{hint}"))
    }
}

fn missing() -> Fault {
    Fault::new(FindingCode::MissingValue, "a value is required")
}

/// The fault of a cell with a NUL byte, whatever its column.
pub(super) fn nul() -> Fault {
    Fault::new(FindingCode::InvalidValue, "expected text without NUL bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: ColumnKind, required: bool, max_length: usize) -> Check {
        let column = Column { name: "x".into(), aliases: vec![], kind, required, unique: false, max_length };
        compile(&column).unwrap()
    }

    #[test]
    fn required_means_more_than_white_space() {
        let (required, optional) = (check(ColumnKind::Integer, true, 10), check(ColumnKind::Integer, false, 10));
        for cell in ["", " ", "\t\n", "\u{a0}"] {
            assert_eq!(required.cell(cell).unwrap_err().code, FindingCode::MissingValue, "{cell:?}");
            assert_eq!(optional.cell(cell), Ok(()), "{cell:?}");
        }
    }

    #[test]
    fn length_is_in_characters() {
        let check = check(ColumnKind::Text, true, 4);
        assert_eq!(check.cell("Zoë😀"), Ok(()));
        assert_eq!(check.cell("Zoë's").unwrap_err().code, FindingCode::FieldTooLong);
    }

    #[test]
    fn messages_tell_the_expected_and_never_the_cell() {
        let check = check(ColumnKind::Enum { values: vec!["yes".into(), "no".into()] }, true, 50);
        assert_eq!(check.cell("perhaps").unwrap_err().message, "expected one of: yes, no");
        assert_eq!(
            check.cell(" yes").unwrap_err().message,
            "expected one of: yes, no; there is white space before or after the value"
        );
    }
}
