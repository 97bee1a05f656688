//! Cells, the reading of them by spreadsheets, and the way back.

use proptest::{collection::vec, prelude::*};
use regex::Regex;

use super::*;

/// What the page's copy of these rules is held to as well (`tests/browser/csv.test.js`).
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/harmless_cells.json");

/// Separators that people and spreadsheets choose.
const SEPARATORS: [char; 8] = [',', ';', '\t', '|', ':', '^', '~', ' '];

#[test]
fn what_could_be_cut_free_is_marked() {
    let text = std::fs::read_to_string(EXAMPLES).expect("as meant");
    let examples: Vec<(String, String)> = serde_json::from_str(&text).expect("as meant");
    assert!(examples.len() > 30);
    for (cell, safe) in examples {
        assert_eq!(harmless(&cell), safe, "{cell:?}");
        assert_eq!(restored(&protected(&cell)), cell);
    }
}

#[test]
fn what_spreadsheets_change_is_marked_in_front() {
    let changed = [
        "007",
        "07700900123",
        "123456789012",
        "12E5",
        "1.5e-3",
        "1-2",
        "3/4",
        "1 1/2",
        "12:30",
        "7 pm",
        "2024-01-02",
        "2024-01-02T10:00:00Z",
        "12.50",
        "1,5",
        ".5",
        "MARCH1",
        "1 Sept",
        "Dec-05",
        "TRUE",
        " 007 ",
    ];
    for cell in changed {
        assert_eq!(protected(cell), format!("'{cell}"));
        assert_eq!(restored(&format!("'{cell}")), cell);
        assert_eq!(harmless(cell), cell, "nothing of it is run");
    }
    for cell in
        ["0", "12", "12345678901", "12A", "AB1 2CD", "07700 900123", "Mary", "May", "Marchbanks 7", "", " ", "e5"]
    {
        assert_eq!(protected(cell), cell);
    }
    assert_eq!(restored("'tis"), "'tis", "nobody marks that");
}

#[test]
fn what_is_passed_over_is_what_unicode_says() {
    let unicode = Regex::new(r"^[\p{White_Space}\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}]$").expect("as meant");
    let wrong: Vec<_> = ('\0'..=char::MAX)
        .filter(|sign| unicode.is_match(sign.encode_utf8(&mut [0; 4])) != is_passed_over(*sign))
        .collect();
    assert_eq!(wrong, Vec::<char>::new());
}

/// Signs that matter, far more often than chance would have them.
fn cell() -> impl Strategy<Value = String> {
    let sign = prop_oneof![
        8 => prop::sample::select("=+-@＝＋－＠﹣'',;|:\t\r\n\" \u{a0}\u{200b}\u{feff}\u{2028}\0ax0159E.".chars().collect::<Vec<_>>()),
        1 => any::<char>(),
    ];
    prop_oneof![4 => vec(sign, 0..12).prop_map(String::from_iter), 1 => any::<String>()]
}

/// What a file's cells are to a spreadsheet that separates like this: with quotes read as RFC 4180 has them, or passed over.
fn cut(file: &str, separator: char) -> Vec<String> {
    let mut cells: Vec<String> = file
        .split(|sign| sign == separator || ends_line(sign))
        .flat_map(|cell| [cell.to_owned(), cell.replace('"', "")])
        .collect();
    let mut separators = [0; 4];
    let separator = separator.encode_utf8(&mut separators).as_bytes()[0];
    let mut quoted = csv::ReaderBuilder::new();
    quoted.delimiter(separator).flexible(true).has_headers(false);
    for record in quoted.from_reader(file.as_bytes()).records() {
        cells.extend(record.expect("as meant").iter().map(str::to_owned));
    }
    cells
}

fn is_run(cell: &str, separator: char) -> bool {
    let seen = cell.trim_start_matches(|sign| is_passed_over(sign) || sign == '"');
    // Cut by spaces, a sign is all there is of its cell.
    let is_alone = separator == ' ' && matches!(seen, "+" | "-");
    seen.starts_with(begins_formula) && !is_alone
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_cell_comes_back_exactly(cell in cell()) {
        let protected = protected(&cell);
        prop_assert_eq!(&restored(&protected), &cell, "{:?}", protected);
    }

    #[test]
    fn no_separator_cuts_a_formula_free(record in vec(cell(), 1..5)) {
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(record.iter().map(|cell| protected(cell).into_owned())).expect("as meant");
        let file = String::from_utf8(csv.into_inner().expect("as meant")).expect("as meant");
        for separator in SEPARATORS {
            for cell in cut(&file, separator) {
                prop_assert!(!is_run(&cell, separator), "{:?} cut by {:?} out of {:?}", cell, separator, file);
            }
        }
    }
}
