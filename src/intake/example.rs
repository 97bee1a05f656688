//! A cell that a column would take, for the file that shows how to fill one in.

use regex_syntax::hir::{Class, Hir, HirKind};

use super::check;
use crate::model::{Column, ColumnKind};

/// The longest cell that is tried; a pattern can ask for any length.
const LONGEST: usize = 1_000;

/// A cell that passes the column's check. For a pattern that asks for what cannot be told from its form (words' borders
/// and the like) there may be none: then the cell is empty, for whoever fills in the file to think of one.
pub fn cell(column: &Column) -> String {
    let Ok(check) = check::compile(column) else { return String::new() };
    let mut candidates = candidates(column).into_iter();
    candidates.find(|cell| !cell.is_empty() && check.cell(cell).is_ok()).unwrap_or_default()
}

fn candidates(column: &Column) -> Vec<String> {
    let of_name = |cell: &str| vec![cell.to_owned(), "x".to_owned()];
    match &column.kind {
        ColumnKind::Text => of_name(match column.name.as_str() {
            "first_name" => "Ada",
            "last_name" => "Lovelace",
            "house_number" => "12",
            _ => "text",
        }),
        ColumnKind::Email => vec!["ada@example.com".to_owned(), "a@b.co".to_owned()],
        ColumnKind::Phone => vec!["020 7946 0958".to_owned(), "2079460".to_owned()],
        ColumnKind::Postcode { .. } => vec![check::example_postcode(column), "10".to_owned()],
        ColumnKind::Integer => vec!["42".to_owned(), "4".to_owned()],
        ColumnKind::Decimal => vec!["12.50".to_owned(), "1".to_owned()],
        ColumnKind::Date { format } => vec![check::example_date(format.as_deref())],
        ColumnKind::Enum { values } => values.clone(),
        ColumnKind::Regex { pattern } => of_pattern(pattern).into_iter().collect(),
    }
}

/// The shortest of what matches, as far as the pattern's form tells.
fn of_pattern(pattern: &str) -> Option<String> {
    let mut text = String::new();
    write(&regex_syntax::parse(pattern).ok()?, &mut text)?;
    Some(text)
}

fn write(hir: &Hir, text: &mut String) -> Option<()> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(std::str::from_utf8(&literal.0).ok()?),
        HirKind::Class(Class::Unicode(class)) => {
            // Any letter or digit of it is easier to read than its first sign.
            let all = class.ranges().iter().map(|range| (range.start(), range.end()));
            let plain =
                ['A', 'a', '0', '1', 'x'].into_iter().find(|it| all.clone().any(|(from, to)| (from..=to).contains(it)));
            text.push(plain.or_else(|| class.ranges().first().map(|range| range.start()))?);
        }
        HirKind::Class(Class::Bytes(class)) => text.push(char::from(class.ranges().first()?.start())),
        HirKind::Capture(capture) => write(&capture.sub, text)?,
        HirKind::Repetition(repetition) => {
            for _ in 0..repetition.min {
                write(&repetition.sub, text)?;
                (text.len() <= LONGEST).then_some(())?;
            }
        }
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| write(part, text))?,
        HirKind::Alternation(choices) => write(choices.first()?, text)?,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: ColumnKind) -> Column {
        Column { name: "x".into(), aliases: vec![], kind, required: true, unique: false, max_length: 50 }
    }

    #[test]
    fn every_type_has_a_cell_that_its_own_check_takes() {
        let patterns = ["[A-Z]{2}\\d{4}", "(red|blue)-[a-z]+", "\\w+@x", "a?b*c+", "\\p{Greek}{3}"];
        let kinds = [
            ColumnKind::Text,
            ColumnKind::Email,
            ColumnKind::Phone,
            ColumnKind::Postcode { country: None },
            ColumnKind::Postcode { country: Some("NL".into()) },
            ColumnKind::Integer,
            ColumnKind::Decimal,
            ColumnKind::Date { format: None },
            ColumnKind::Date { format: Some("%d/%m/%Y".into()) },
            ColumnKind::Enum { values: vec!["yes".into(), "no".into()] },
        ];
        let of_patterns = patterns.map(|pattern| ColumnKind::Regex { pattern: pattern.into() });
        for kind in kinds.into_iter().chain(of_patterns) {
            let column = column(kind);
            let cell = cell(&column);
            assert_eq!(check::compile(&column).expect("compiles").cell(&cell), Ok(()), "{column:?}: {cell:?}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_left_to_a_person() {
        assert_eq!(cell(&column(ColumnKind::Regex { pattern: "a{2000}".into() })), "");
        assert_eq!(cell(&Column { max_length: 3, ..column(ColumnKind::Phone) }), "");
    }
}
