//! What commands print: tables for people, JSON for programs.
//!
//! All of it goes through here. What a file, a vendor or a person has put into a text cannot move the cursor, write over
//! a line or turn a name around: control characters, those that change the direction of writing, and those that nobody
//! sees are shown as what they are (`\u{1b}`). A reader who has seen enough (`| head -1`) ends nothing but the printing.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

use super::error::CliError;

/// Between two columns.
const GAP: usize = 2;
/// A column is not cut to less than this: what is left would say nothing.
const NARROWEST: usize = 8;

/// What became of standard output, where it takes nothing any more.
static UNHEARD: Mutex<Option<io::ErrorKind>> = Mutex::new(None);

/// Prints a line, or several, for a person: as `println!`, and see [`self`].
macro_rules! say {
    ($($told:tt)*) => { $crate::cli::output::text(&format!("{}\n", format_args!($($told)*))) };
}

/// One JSON document on standard output.
pub fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| CliError::Failed(error.to_string()))?;
    print(&(visible_in_json(&text) + "\n"));
    Ok(())
}

/// A text that has its line feeds.
pub fn text(text: &str) {
    print(&visible(text));
}

/// What went wrong, on standard error.
pub fn error(error: &impl std::fmt::Display) {
    // There is nobody to tell that nobody hears it.
    let _ = io::stderr().write_all(format!("dripfeed: {}\n", visible(&error.to_string())).as_bytes());
}

/// Whether all of it arrived. Who does not want the rest has what they asked for; a full disk is another matter.
pub fn arrived() -> Result<(), CliError> {
    match *UNHEARD.lock().unwrap_or_else(PoisonError::into_inner) {
        None | Some(io::ErrorKind::BrokenPipe) => Ok(()),
        Some(kind) => Err(CliError::Failed(format!("what was to be printed could not be written: {kind}"))),
    }
}

fn print(text: &str) {
    let mut unheard = UNHEARD.lock().unwrap_or_else(PoisonError::into_inner);
    if unheard.is_none() {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        *unheard = written.err().map(|error| error.kind());
    }
}

/// Whether a terminal obeys it, or nobody sees it. What joins letters (U+200C, U+200D) is a part of words.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Lines as they can be shown.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) && !matches!(c, '\n' | '\t') { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// The same document: outside of its texts JSON has no such characters but line feeds, and within them each can be
/// escaped.
fn visible_in_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if !is_hidden(c) || c == '\n' {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a text cannot fail.
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    shown
}

/// A cell is on one line.
fn cell(text: &str) -> String {
    visible(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// Rows of text under a header, each column as wide as its widest cell. On a terminal, what does not fit is cut with an
/// ellipsis, the widest columns first; elsewhere nothing is cut, because a program may read it.
pub fn table(header: &[&str], rows: &[Vec<String>]) {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|text| cell(text)).collect()).collect();
    for line in lines(header, &rows, terminal_width()) {
        say!("{line}");
    }
}

fn terminal_width() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

fn lines(header: &[&str], rows: &[Vec<String>], fits: Option<usize>) -> Vec<String> {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    if let Some(fits) = fits {
        narrow(&mut widths, fits);
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, &width)| format!("{:<width$}", cut(cell, width)));
        padded.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
    };
    let first = line(&mut header.iter().copied());
    let rest = rows.iter().map(|row| line(&mut row.iter().map(String::as_str)));
    std::iter::once(first).chain(rest).collect()
}

/// Takes from the widest columns until all fit, or until none can give any more.
fn narrow(widths: &mut [usize], fits: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    let mut too_wide = (widths.iter().sum::<usize>() + gaps).saturating_sub(fits);
    while too_wide > 0 {
        let Some(widest) = widths.iter_mut().filter(|width| **width > NARROWEST).max() else { return };
        *widest -= 1;
        too_wide -= 1;
    }
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    let kept: String = cell.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        vec![row(["bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X", "acme", "17"]), row(["bat_2", "a client with a long näme", "4"])]
    }

    #[test]
    fn what_would_move_a_terminal_is_shown_as_what_it_is() {
        let nasty = "a\u{1b}[2Jb\u{202e}c\u{9b}d\u{7f}\u{200b}\r\n\te\u{0}";
        assert_eq!(visible(nasty), "a\\u{1b}[2Jb\\u{202e}c\\u{9b}d\\u{7f}\\u{200b}\\u{d}\n\te\\u{0}");
        assert_eq!(cell("a\nb\tc"), "a\\nb\\tc");
        for plain in ["Zoë Müller", "می\u{200c}خواهم", "👩\u{200d}🔬", "שלום", "-- \\ \"quoted\" --"] {
            assert_eq!(visible(plain), plain);
        }
        let document = serde_json::json!({ "a\u{202e}": [nasty, "\u{e0001}", "Zoë"] });
        let shown = visible_in_json(&serde_json::to_string_pretty(&document).expect("JSON"));
        assert!(shown.chars().all(|c| c == '\n' || !is_hidden(c)), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), document);
    }

    #[test]
    fn a_table_fits_its_terminal_and_is_whole_elsewhere() {
        let header = ["BATCH", "CLIENT", "ROWS"];
        let whole = lines(&header, &rows(), None);
        assert_eq!(whole[1], "bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X  acme                       17");
        assert_eq!(lines(&header, &rows(), Some(200)), whole);
        let cut = lines(&header, &rows(), Some(40));
        assert!(cut.iter().all(|line| line.chars().count() <= 40), "{cut:#?}");
        assert!(
            cut[1].starts_with("bat_01J9ZK3V8Q2") && cut[1].contains("…  acme") && cut[1].ends_with("17"),
            "{cut:#?}"
        );
        assert!(cut[2].contains("a client with") && cut[2].contains("…  4"), "{cut:#?}");
        let tiny = lines(&header, &rows(), Some(5));
        assert!(tiny[1].starts_with("bat_01J…"), "some is left of every cell: {tiny:#?}");
    }
}
