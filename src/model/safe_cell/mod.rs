//! A cell of a CSV file that is safe to open in a spreadsheet, and the cell that it was before.
//!
//! A spreadsheet runs what begins like a formula (OWASP, CSV Injection), and where a cell begins is its own opinion: one
//! that separates by semicolons, or goes by nothing but line ends, cuts `x;=cmd` in two. So a `'` is put in front of every
//! sign that could begin a formula in a cell that some separator cuts free, not only of a cell's first. What a spreadsheet
//! would not run but change (`007`, `1-2`) gets one in front as well.
//!
//! All of it can be undone exactly: [`restored`] of [`protected`] is the cell, whatever stands in it. It knows a mark by
//! what stands behind it, so a `'` of the cell's own that could be taken for one is marked itself.
//!
//! No mark helps where `'` itself is chosen to enclose cells; no spreadsheet does that by itself.

mod changed;

use std::borrow::Cow;

use changed::is_changed;

const MARK: char = '\'';

/// The cell, so that no spreadsheet runs any of it.
pub fn harmless(cell: &str) -> Cow<'_, str> {
    marked(cell, begins_badly(cell))
}

/// The cell, so that no spreadsheet runs any of it, nor takes it for something else than a text.
pub fn protected(cell: &str) -> Cow<'_, str> {
    marked(cell, begins_badly(cell) || is_changed(cell))
}

/// The cell that [`protected`] made this of. A cell that it cannot have made is left alone where it is not marked.
pub fn restored(field: &str) -> Cow<'_, str> {
    if !field.contains(MARK) {
        return field.into();
    }
    if let Some(behind) = field.strip_prefix(MARK) {
        let cell = without_marks(behind);
        if begins_badly(&cell) || is_changed(&cell) {
            return cell;
        }
    }
    without_marks(field)
}

/// Whether a spreadsheet takes a cell that begins like this for a formula, or strips what it begins with and then does;
/// or whether it begins with what would be taken for a mark.
fn begins_badly(cell: &str) -> bool {
    cell.starts_with(|sign| begins_formula(sign) || ends_line(sign) || matches!(sign, '\t' | MARK))
}

/// What a formula begins with; in full width, too, which spreadsheets in East Asia take for the same.
fn begins_formula(sign: char) -> bool {
    matches!(sign, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' | '﹦' | '﹢' | '﹣' | '﹫')
}

fn ends_line(sign: char) -> bool {
    matches!(sign, '\r' | '\n' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What somebody, or a spreadsheet by itself, may take for the end of a cell; a quote because one that is read again
/// within other cells can open or close there.
fn separates(sign: char) -> bool {
    matches!(sign, ',' | ';' | '\t' | '|' | ':' | '^' | '~' | '"') || ends_line(sign)
}

/// What is stripped, or not seen, at the beginning of a cell: white space, controls, and what Unicode calls format
/// characters or ignorable by default.
fn is_passed_over(sign: char) -> bool {
    sign.is_whitespace()
        || sign.is_control()
        || matches!(sign,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
            | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a cell could begin in front of the sign that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In no reading.
    Within,
    /// Where white space separates, which nobody's files do by themselves, but can be chosen.
    BehindSpace,
    Beginning,
}

impl Place {
    fn behind(self, sign: char) -> Self {
        match self {
            _ if separates(sign) => Self::Beginning,
            Self::Within if is_passed_over(sign) => Self::BehindSpace,
            place if is_passed_over(sign) => place,
            _ => Self::Within,
        }
    }

    /// Whether this sign gets a mark here, in front of that one.
    fn asks_for_mark(self, sign: char, next: Option<char>) -> bool {
        match self {
            Self::Within => false,
            // As a mark it would be taken off.
            _ if sign == MARK => next.is_some_and(|next| next == MARK || begins_formula(next)),
            // `12 - 14`: where white space cuts, it cuts behind the sign as well, and leaves nothing to run.
            Self::BehindSpace if matches!(sign, '+' | '-') => next != Some(' '),
            _ => begins_formula(sign),
        }
    }
}

/// The cell with a mark wherever one is asked for behind its first sign, and in front of that where that is said.
fn marked(cell: &str, in_front: bool) -> Cow<'_, str> {
    let mut out = in_front.then(|| String::from(MARK));
    let (mut place, mut copied) = (Place::Beginning, 0);
    let mut signs = cell.char_indices().peekable();
    while let Some((at, sign)) = signs.next() {
        if at > 0 && place.asks_for_mark(sign, signs.peek().map(|(_, next)| *next)) {
            let out = out.get_or_insert_default();
            out.push_str(&cell[copied..at]);
            out.push(MARK);
            copied = at;
        }
        place = place.behind(sign);
    }
    match out {
        None => cell.into(),
        Some(mut out) => {
            out.push_str(&cell[copied..]);
            out.into()
        }
    }
}

/// The cell without the marks behind its first sign.
fn without_marks(field: &str) -> Cow<'_, str> {
    let mut out: Option<String> = None;
    let (mut place, mut copied) = (Place::Beginning, 0);
    let mut signs = field.char_indices().peekable();
    while let Some((at, sign)) = signs.next() {
        let is_mark = |next: &(usize, char)| next.1 == MARK || begins_formula(next.1);
        let marked = if at > 0 && sign == MARK && place != Place::Within { signs.next_if(is_mark) } else { None };
        match marked {
            None => place = place.behind(sign),
            Some((at_next, next)) => {
                out.get_or_insert_default().push_str(&field[copied..at]);
                copied = at_next;
                place = place.behind(next);
            }
        }
    }
    match out {
        None => field.into(),
        Some(mut out) => {
            out.push_str(&field[copied..]);
            out.into()
        }
    }
}

#[cfg(test)]
mod tests;
