//! What holds for every file, whatever stands in it and however its bytes arrive.

use proptest::{collection::vec, prelude::*};

use super::{
    records::{RecordError, Records},
    *,
};
use crate::model::safe_cell;

/// Gives its bytes in pieces of given sizes, as networks do.
pub(super) struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(bytes: &'a [u8], sizes: &'a [usize]) -> Self {
        Self { bytes, sizes: sizes.iter().cycle() }
    }
}

impl io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes.next().copied().unwrap_or(1).min(buffer.len());
        io::Read::read(&mut self.bytes, &mut buffer[..size])
    }
}

/// Every record with its line, or how reading ended.
fn read_all(mut records: Records<impl io::Read>) -> Result<Vec<(u64, Vec<String>)>, RecordError> {
    let mut all = Vec::new();
    while let Some(record) = records.read()? {
        all.push((record.line, record.fields().map(str::to_owned).collect()));
    }
    Ok(all)
}

fn cell() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{0,3}", "[a\"',;\r\n é]{0,6}", Just("long ".repeat(4_000))]
}

/// The lines that end in a text, where CR, LF and CRLF each end one.
fn line_ends(text: &str) -> u64 {
    (text.replace("\r\n", "\n").matches(['\r', '\n']).count()) as u64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_the_csv_crate_writes_is_read_back_exactly(
        written in vec(vec(cell(), 2..4), 1..20),
        sizes in vec(1_usize..40_000, 1..4),
        end in prop_oneof![Just(csv::Terminator::CRLF), Just(csv::Terminator::Any(b'\n')), Just(csv::Terminator::Any(b'\r'))],
    ) {
        let mut file = Vec::new();
        let mut expected = Vec::new();
        for record in written {
            let line = 1 + line_ends(std::str::from_utf8(&file).unwrap());
            // Quotes around every cell keep one that begins with a byte order mark or a line end what it is.
            let mut writer = csv::WriterBuilder::new().terminator(end).quote_style(csv::QuoteStyle::Always).from_writer(vec![]);
            writer.write_record(&record).unwrap();
            file.extend(writer.into_inner().unwrap());
            expected.push((line, record));
        }
        let pieces = Pieces::new(&file, &sizes);
        prop_assert_eq!(read_all(Records::new(pieces, b',')).unwrap(), expected);
    }

    #[test]
    fn how_the_bytes_arrive_changes_nothing(
        file in vec(prop_oneof![Just(b'a'), Just(b','), Just(b'"'), Just(b'\r'), Just(b'\n'), Just(0xc3), Just(0xa9), any::<u8>()], 0..300),
        sizes in vec(1_usize..7, 1..4),
    ) {
        let whole = read_all(Records::new(file.as_slice(), b','));
        let pieces = read_all(Records::new(Pieces::new(&file, &sizes), b','));
        prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
    }

    #[test]
    fn what_a_result_file_protects_comes_back_exactly(
        names in vec("[=+@'; |\"a-z]{0,3}[a-z]", 1..4),
        written in vec(vec("[-=+@＝'\"; |,:\t\r\na0]{0,8}", 3..4), 1..8),
        protects: bool,
        delimiter in prop_oneof![Just(b','), Just(b';'), Just(b'\t')],
    ) {
        let form = if protects { "safe" } else { "raw" };
        let cell = |cell: &str| if protects { safe_cell::protected(cell).into_owned() } else { cell.to_owned() };
        let mut csv = csv::WriterBuilder::new().delimiter(delimiter).flexible(true).from_writer(vec![]);
        let extras: Vec<_> = names.iter().enumerate().map(|(number, name)| format!("{name}{number}")).collect();
        let header = ["email", "name", "_cells"].into_iter().chain(extras.iter().map(String::as_str));
        csv.write_record(header.map(cell)).unwrap();
        let mut expected = Vec::new();
        for (number, row) in written.iter().enumerate() {
            let mut cells = vec![format!("p{number}@example.com"), "Ann".to_owned()];
            cells.extend(row.iter().take(extras.len()).cloned());
            cells.resize(2 + extras.len(), "x;=y".to_owned());
            let mut record: Vec<_> = cells.iter().map(|it| cell(it)).collect();
            record.insert(2, form.to_owned());
            csv.write_record(record).unwrap();
            expected.push(cells);
        }
        let file = csv.into_inner().unwrap();
        let accepted = upload(&keeping(), &file).accepted();
        let found: Vec<_> = accepted.header.kept().skip(2).map(|column| column.name.clone()).collect();
        prop_assert_eq!(found, extras);
        let found: Vec<_> = rows(&file, &accepted.header).into_iter().map(|row| row.2).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_bytes_get_a_verdict(start in prop_oneof![Just(""), Just("email,name\n"), Just("email;name;_batch;_row;_cells\n")], rest in any::<Vec<u8>>(), gzip: bool) {
        let file = [start.as_bytes(), &rest].concat();
        for workflow in [workflow(), skipping(), keeping()] {
            if let Ok(accepted) = upload_as(&workflow, file.as_slice(), gzip).verdict {
                prop_assert_eq!(rows(&file, &accepted.header).len() as u64, accepted.rows + accepted.skipped);
            }
        }
    }
}
