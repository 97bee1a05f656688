//! What commands print: tables for people, JSON for programs.

use std::io::IsTerminal;

use serde::Serialize;

use super::error::CliError;

/// Between two columns.
const GAP: usize = 2;
/// A column is not cut to less than this: what is left would say nothing.
const NARROWEST: usize = 8;

/// One JSON document on standard output.
pub fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| CliError::Failed(error.to_string()))?;
    println!("{text}");
    Ok(())
}

/// Rows of text under a header, each column as wide as its widest cell. On a terminal, what does not fit is cut with an
/// ellipsis, the widest columns first; elsewhere nothing is cut, because a program may read it.
pub fn table(header: &[&str], rows: &[Vec<String>]) {
    for line in lines(header, rows, terminal_width()) {
        println!("{line}");
    }
}

fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
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
