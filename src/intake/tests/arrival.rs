//! What holds however a file is written and however its bytes arrive: the same verdict, with a place and a code for
//! everything that is wrong.

use std::io::Write;

use proptest::{collection::vec, prelude::*};

use super::{properties::Pieces, *};

/// A cell as it is meant, and as it is written: in quotes where it has to be, or where somebody felt like it.
fn cell() -> impl Strategy<Value = (String, String)> {
    ("[a-z \"',;\r\n\té]{0,6}", any::<bool>()).prop_map(|(cell, likes_quotes)| {
        let needs_quotes = cell.contains(['"', ',', '\r', '\n']);
        let quoted = format!("\"{}\"", cell.replace('"', "\"\""));
        let written = if needs_quotes || likes_quotes { quoted } else { cell.clone() };
        (cell, written)
    })
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("\n"), Just("\r\n"), Just("\r"), Just("\n\n"), Just("\r\n\r\n"), Just("\n\r\n"), Just("\r\r")]
}

/// The lines that end in a text, where CR, LF and CRLF each end one.
fn lines_in(text: &str) -> u64 {
    text.replace("\r\n", "\n").matches(['\r', '\n']).count() as u64
}

/// A file that is nearly good: a header of known and of any names, and rows of good and of any cells.
fn nearly_good() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        6 => Just("email".to_owned()),
        6 => Just("Full Name".to_owned()),
        2 => Just(" AGE ".to_owned()),
        2 => prop::sample::select(vec!["_batch", "_row", "_cells", "_else", "", "\"email\""]).prop_map(str::to_owned),
        1 => "\\PC{0,8}",
    ];
    let cell = prop_oneof![
        3 => "[ab]@mail\\.example",
        3 => "[A-C]",
        2 => "[0-9]{0,3}",
        1 => cell().prop_map(|(_, written)| written),
        1 => any::<String>(),
    ];
    let separator = prop_oneof![4 => Just(","), 1 => Just(";"), 1 => Just("\t")];
    let line = |cells: Vec<String>, separator: &str, end: &str| cells.join(separator) + end;
    (vec(name, 1..5), vec((vec(cell, 1..5), line_end()), 0..6), separator).prop_map(move |(header, rows, separator)| {
        let rows = rows.into_iter().map(|(cells, end)| line(cells, separator, end));
        line(header, separator, "\n") + &rows.collect::<String>()
    })
}

fn any_file() -> impl Strategy<Value = Vec<u8>> {
    let good = Just("email,name,age\na@mail.example,Ann,7\nb@mail.example,Bob,\n".to_owned());
    let cut = (nearly_good(), any::<prop::sample::Index>()).prop_map(|(file, at)| {
        let mut bytes = file.into_bytes();
        bytes.truncate(at.index(bytes.len() + 1));
        bytes
    });
    prop_oneof![
        1 => good.prop_map(String::into_bytes),
        6 => nearly_good().prop_map(String::into_bytes),
        2 => cut,
        1 => vec(any::<u8>(), 0..200),
    ]
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Everything that came of an upload, to be compared.
fn told(upload: Upload) -> String {
    let stored = upload.verdict.is_ok().then_some(upload.stored);
    format!("{:?} {:?} {stored:?}", upload.verdict, upload.heard)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn records_are_read_back_whatever_is_quoted_and_whatever_ends_a_line(
        written in vec((vec(cell(), 2..4), line_end()), 1..12),
        sizes in vec(1_usize..40, 1..4),
    ) {
        let (mut file, mut expected) = (String::new(), Vec::new());
        for (cells, end) in written {
            let (meant, written): (Vec<_>, Vec<_>) = cells.into_iter().unzip();
            expected.push((1 + lines_in(&file), meant));
            file += &(written.join(",") + end);
        }
        let mut records = records::Records::new(Pieces::new(file.as_bytes(), &sizes), b',');
        let mut read = Vec::new();
        while let Some(record) = records.read().unwrap() {
            read.push((record.line, record.fields().map(str::to_owned).collect::<Vec<_>>()));
        }
        prop_assert_eq!(read, expected, "{:?}", file);
    }

    #[test]
    fn the_verdict_depends_on_the_file_alone(file in any_file(), sizes in vec(1_usize..50, 1..4)) {
        let zipped = gzipped(&file);
        for workflow in [workflow(), skipping(), keeping()] {
            let at_once = told(upload(&workflow, &file));
            prop_assert_eq!(&told(upload_as(&workflow, Pieces::new(&file, &sizes), false)), &at_once);
            prop_assert_eq!(&told(upload_as(&workflow, Pieces::new(&zipped, &sizes), true)), &at_once);
        }
    }

    #[test]
    fn everything_that_is_wrong_has_a_place_and_tells_no_cell(file in any_file()) {
        let lines = 1 + lines_in(&String::from_utf8_lossy(&file));
        for workflow in [workflow(), skipping(), keeping()] {
            let Upload { verdict, stored, heard } = upload(&workflow, &file);
            let findings = match verdict {
                Ok(accepted) => {
                    prop_assert!(accepted.rows > 0 && stored == file);
                    prop_assert_eq!(rows(&file, &accepted.header).len() as u64, accepted.rows + accepted.skipped);
                    heard
                }
                Err(Refused::Invalid(report)) => {
                    prop_assert!(!report.findings.is_empty() && report.count >= report.findings.len() as u64);
                    report.findings
                }
                Err(other) => panic!("{other:?}"),
            };
            for finding in findings {
                prop_assert!((1..=lines).contains(&finding.line), "{:?}", finding);
                prop_assert!(finding.column_number != Some(0), "{:?}", finding);
                prop_assert!(!finding.message.contains("mail.example"), "{:?}", finding);
                prop_assert!((1..300).contains(&finding.message.len()), "{:?}", finding);
            }
        }
    }

    #[test]
    fn a_header_of_any_text_is_understood_or_told_what_is_wrong(
        names in vec(prop_oneof![3 => Just("email".to_owned()), 3 => Just("NAME ".to_owned()), 2 => ".{0,300}"], 1..6),
    ) {
        let mut writer = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(vec![]);
        writer.write_record(&names).unwrap();
        let file = [writer.into_inner().unwrap(), b"a@mail.example,Ann".to_vec(), b",".repeat(names.len().saturating_sub(2))].concat();
        for workflow in [workflow(), keeping()] {
            match upload(&workflow, &file).verdict {
                Ok(accepted) => prop_assert_eq!(accepted.header.columns.len(), names.len()),
                Err(Refused::Invalid(report)) => {
                    for finding in report.findings {
                        let is_of_the_header = finding.code.as_str().ends_with("_column");
                        prop_assert!(!is_of_the_header || finding.line == 1, "{:?}", finding);
                        prop_assert!(finding.column_number.is_none_or(|it| (1..=names.len()).contains(&(it as usize))));
                        prop_assert!(finding.column.is_none_or(|column| column.chars().count() <= 100));
                    }
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}
