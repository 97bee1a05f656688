//! The header of a file: what each column is, and everything that can be wrong with it, told at once.
//!
//! The header is kept with the batch: it is what is needed to read the stored file again, to fill templates, and to
//! build results in the file's own columns. Its names are the client's, so it is sealed where it is kept.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
};

use serde::{Deserialize, Serialize};

use super::{
    finding::{Fault, Finding, FindingCode},
    records::{MAX_FIELDS, Record, Records},
    rules::{Rules, fold},
};
use crate::model::{safe_cell, workflow::ExtraColumns};

/// So much of a name is told in messages.
const NAME_CHARACTERS: usize = 100;

/// What separates the fields of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "they say what they are")]
pub enum Delimiter {
    Comma,
    Semicolon,
    Tab,
}

impl Delimiter {
    /// The one under which the first record has the most columns that the workflow knows; a comma where none wins.
    pub(super) fn find_out(start: &[u8], rules: &Rules) -> Self {
        let known_columns = |delimiter: &Self| match Records::new(start, delimiter.as_byte()).read() {
            Ok(Some(record)) => record.fields().filter(|name| rules.find(name).is_some()).count(),
            _ => 0,
        };
        // Of equals the last is the greatest.
        [Self::Tab, Self::Semicolon, Self::Comma].into_iter().max_by_key(known_columns).unwrap_or(Self::Comma)
    }

    /// The character itself.
    pub fn as_byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
        }
    }
}

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Comma => "comma",
            Self::Semicolon => "semicolon",
            Self::Tab => "tab",
        })
    }
}

/// The first record of a file, understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// What separates the fields.
    pub delimiter: Delimiter,
    /// The columns in the file's order.
    pub columns: Vec<HeaderColumn>,
}

/// One column of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderColumn {
    /// Its name exactly as the file has it.
    pub name: String,
    /// What it is to us.
    pub role: Role,
}

/// What a column of a file is to us. `Workflow` and `Extra` are kept with every row, the others are not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The workflow's column of this name.
    Workflow(String),
    /// One that the workflow does not name, but keeps.
    Extra,
    /// `_batch` of one of our result files.
    Batch,
    /// `_row` of one of our result files.
    Row,
    /// `_cells` of one of our result files.
    Cells,
    /// Any other that begins with `_`.
    PassedOver,
}

impl Role {
    /// Whether the column's cells are kept with every row.
    pub fn is_kept(&self) -> bool {
        matches!(self, Self::Workflow(_) | Self::Extra)
    }
}

impl HeaderColumn {
    /// What the column is called in templates, `row.NAME`: the workflow's name, or an extra's own, trimmed.
    pub fn template_name(&self) -> &str {
        match &self.role {
            Role::Workflow(name) => name,
            _ => self.name.trim(),
        }
    }
}

impl Header {
    /// The columns whose cells are kept, in the order in which a row has them.
    pub fn kept(&self) -> impl Iterator<Item = &HeaderColumn> {
        self.columns.iter().filter(|column| column.role.is_kept())
    }

    /// Whether a file that begins like this is one of our results whose cells are protected, by what its first row says:
    /// then so are its names.
    pub(super) fn is_protected(start: &[u8], delimiter: Delimiter) -> bool {
        let mut records = Records::new(start, delimiter.as_byte());
        let Ok(Some(header)) = records.read() else { return false };
        let Some(place) = header.fields().position(|name| fold(name) == "_cells") else { return false };
        matches!(records.read(), Ok(Some(row)) if row.field(place) == "safe")
    }

    /// Understands a file's first record, or says everything that is wrong with it.
    pub(super) fn understand(
        record: &Record,
        delimiter: Delimiter,
        is_protected: bool,
        rules: &Rules,
    ) -> Result<Self, Vec<Finding>> {
        if record.width() > MAX_FIELDS {
            let message = format!("the header has more than {MAX_FIELDS} columns");
            return Err(vec![Fault::new(FindingCode::WrongFieldCount, message).at_line(record.line)]);
        }
        let name = |field| if is_protected { safe_cell::restored(field) } else { field.into() };
        let columns =
            record.fields().map(name).map(|name| HeaderColumn { role: role(&name, rules), name: name.into() });
        let header = Self { delimiter, columns: columns.collect() };
        let faults = header.faults(record.line, rules);
        if faults.is_empty() { Ok(header) } else { Err(faults) }
    }

    fn faults(&self, line: u64, rules: &Rules) -> Vec<Finding> {
        let mut faults = self.missing(line, rules);
        faults.extend(self.unknown_and_duplicate(line, rules));
        faults
    }

    fn missing(&self, line: u64, rules: &Rules) -> Vec<Finding> {
        let has = |role: Role| self.columns.iter().any(|column| column.role == role);
        let required = rules.checks.iter().filter(|check| check.required && !has(Role::Workflow(check.name.clone())));
        let mut missing: Vec<_> = required
            .map(|check| (check.name.as_str(), format!("the required column {} is missing", check.name)))
            .collect();
        // One without the other does not say which row it was, and the row would be taken for a new one.
        match (has(Role::Batch), has(Role::Row)) {
            (true, false) => missing.push(("_row", "the column _batch needs the column _row beside it".to_owned())),
            (false, true) => missing.push(("_batch", "the column _row needs the column _batch beside it".to_owned())),
            _ => {}
        }
        let finding = |(name, message): (&str, String)| Finding {
            line,
            column: Some(name.to_owned()),
            column_number: None,
            code: FindingCode::MissingColumn,
            message,
        };
        missing.into_iter().map(finding).collect()
    }

    fn unknown_and_duplicate(&self, line: u64, rules: &Rules) -> Vec<Finding> {
        // Where no name is known the line may be no header but somebody's data, and none of it is told.
        let is_header = self.columns.iter().any(|column| matches!(column.role, Role::Workflow(_)));
        let mut first_places = HashMap::new();
        let mut faults = Vec::new();
        for (position, column) in self.columns.iter().enumerate() {
            let fault = match &column.role {
                Role::PassedOver => continue,
                Role::Extra if column.name.trim().is_empty() => {
                    Fault::new(FindingCode::UnknownColumn, format!("column {} has no name", position + 1))
                }
                Role::Extra if rules.extra_columns == ExtraColumns::Reject => {
                    Fault::new(FindingCode::UnknownColumn, "the workflow does not know this column")
                }
                role => match first_places.entry((role, fold(column.template_name()))) {
                    Entry::Vacant(vacant) => {
                        vacant.insert(position);
                        continue;
                    }
                    Entry::Occupied(first) => {
                        let message = format!("the column means the same as column {}", first.get() + 1);
                        Fault::new(FindingCode::DuplicateColumn, message)
                    }
                },
            };
            let finding = fault.at_cell(line, &told(&column.name), position);
            faults.push(Finding { column: finding.column.filter(|_| is_header), ..finding });
        }
        faults
    }
}

fn role(name: &str, rules: &Rules) -> Role {
    match fold(name).as_str() {
        "_batch" => Role::Batch,
        "_row" => Role::Row,
        "_cells" => Role::Cells,
        folded if folded.starts_with('_') => Role::PassedOver,
        folded => rules
            .find(folded)
            .and_then(|index| rules.checks.get(index))
            .map_or(Role::Extra, |check| Role::Workflow(check.name.clone())),
    }
}

/// A column's name as it is told in findings: trimmed, and not as long as a file might have it.
pub(super) fn told(name: &str) -> String {
    name.trim().chars().take(NAME_CHARACTERS).collect()
}
