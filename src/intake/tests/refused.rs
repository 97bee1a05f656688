//! Files that no batch is made of, and how exactly they are told why.

use std::io::{Read, Write};

use super::*;

type Place<'a> = (u64, Option<&'a str>, Option<u32>, &'a str);

/// Every fault of a file, as (line, column, column number, code).
fn told(workflow: &Workflow, file: impl AsRef<[u8]>, expected: &[Place]) {
    let file = file.as_ref();
    let places = upload(workflow, file).places();
    let places: Vec<_> =
        places.iter().map(|(line, name, number, code)| (*line, name.as_deref(), *number, *code)).collect();
    assert_eq!(places, expected, "{:?}", String::from_utf8_lossy(&file[..file.len().min(200)]));
}

#[test]
fn each_fault_is_told_at_its_place() {
    let w = &workflow();
    for nothing in ["", "\u{feff}", "\r\n\n"] {
        told(w, nothing, &[(1, None, None, "empty_file")]);
    }
    for no_rows in ["email,name", "email,name\r\n\r\n"] {
        told(w, no_rows, &[(1, None, None, "no_rows")]);
    }
    told(
        w,
        "email,name\na@example.com\nb@example.com,B,1\n",
        &[(2, None, None, "wrong_field_count"), (3, None, None, "wrong_field_count")],
    );
    told(
        w,
        "name,email,age\n ,a@example.com,x\n\"B\nb\",,\nC,\0c@example.com,",
        &[
            (2, Some("name"), Some(1), "missing_value"),
            (2, Some("age"), Some(3), "invalid_value"),
            (3, Some("email"), Some(2), "missing_value"),
            (5, Some("email"), Some(2), "invalid_value"),
        ],
    );
    told(
        w,
        format!("email,Full NAME\na@example.com,{}\n", "é".repeat(21)),
        &[(2, Some("Full NAME"), Some(2), "field_too_long")],
    );
}

#[test]
fn all_header_faults_are_told_at_once_and_nothing_else() {
    told(
        &workflow(),
        "email,phone,EMAIL,,_batch\nwrong,,,,\n",
        &[
            (1, Some("name"), None, "missing_column"),
            (1, Some("_row"), None, "missing_column"),
            (1, Some("phone"), Some(2), "unknown_column"),
            (1, Some("EMAIL"), Some(3), "duplicate_column"),
            (1, Some(""), Some(4), "unknown_column"),
        ],
    );
    told(
        &keeping(),
        "email,name,full name,Note,note\n",
        &[(1, Some("full name"), Some(3), "duplicate_column"), (1, Some("note"), Some(5), "duplicate_column")],
    );
    told(&workflow(), format!("email{}\n", ",".repeat(records::MAX_FIELDS)), &[(1, None, None, "wrong_field_count")]);
}

#[test]
fn data_where_a_header_should_be_is_not_repeated() {
    let report = upload(&workflow(), "ada@example.com,Ada\n").report();
    let codes: Vec<_> = report.findings.iter().map(|finding| finding.code.as_str()).collect();
    assert_eq!(codes, ["missing_column", "missing_column", "unknown_column", "unknown_column"]);
    assert!(!serde_json::to_string(&report.findings).unwrap().to_lowercase().contains("ada"));
}

#[test]
fn no_message_repeats_a_cell() {
    let file =
        "email,name,age\nsecret,\"secret secret secret secret\",secret\nsecret@example.com,A,\nsecret@example.com,B,\n";
    let upload = upload(&workflow(), file);
    assert_eq!(upload.heard.len(), 4);
    assert!(upload.heard.iter().all(|finding| !finding.message.contains("secret")));
}

#[test]
fn later_duplicates_are_told_with_the_first_line_in_order() {
    let file = "email,name\na@example.com,A\nb@example.com,\nA@Example.com,C\nx,D\nb@example.com,E\na@example.com,F\n";
    let findings = upload(&workflow(), file).report().findings;
    let told: Vec<_> = findings.iter().map(|finding| (finding.line, finding.code.as_str())).collect();
    assert_eq!(
        told,
        [
            (3, "missing_value"),
            (4, "duplicate_value"),
            (5, "invalid_value"),
            (6, "duplicate_value"),
            (7, "duplicate_value")
        ]
    );
    assert!(findings[1].message.contains("line 2") && findings[3].message.contains("line 3"));
    assert!(findings[4].message.contains("line 2"), "the first one, not the one before");
}

#[test]
fn all_faults_are_counted_and_nothing_more_is_stored() {
    let rows: String = (0..900).map(|n| format!("n{n},N\n")).collect();
    let upload = upload(&workflow(), format!("email,name\n{rows}"));
    assert_eq!(upload.heard.len(), 900);
    let report = upload.report();
    assert_eq!((report.count, report.findings.len(), report.findings[99].line), (900, Report::MOST_KEPT, 101));
}

#[test]
fn after_the_first_fault_storage_gets_nothing_more() {
    let rows: String = (0..999).map(|n| format!("n{n}@example.com,{}\n", "x".repeat(400))).collect();
    let file = format!("email,name\n{rows}");
    let stored = upload(&workflow(), &file).stored.len();
    assert!(stored < file.len() / 2, "{stored} of {} bytes were stored", file.len());
}

#[test]
fn other_encodings_are_named() {
    let utf16 = |to_bytes: fn(u16) -> [u8; 2]| "email,name\n".encode_utf16().flat_map(to_bytes).collect::<Vec<_>>();
    for file in [utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)] {
        assert!(upload(&workflow(), &file).report().findings[0].message.contains("UTF-16"));
        told(&workflow(), &file, &[(1, None, None, "not_utf8")]);
    }
    let latin_1 = b"email,name\na@example.com,A\nb@example.com,Zo\xeb\nwrong,\xeb\n";
    told(&workflow(), latin_1, &[(3, Some("name"), Some(2), "not_utf8")]);
    assert!(upload(&workflow(), latin_1).report().findings[0].message.contains("Windows-1252"));
    told(&workflow(), b"email,n\xe4me\n", &[(1, None, Some(2), "not_utf8")]);
    // Two halves of a character, one on either side of a delimiter, are no character.
    told(&workflow(), b"name,email\n\xc3,\xa9@example.com\n", &[(2, Some("name"), Some(1), "not_utf8")]);
}

#[test]
fn quotes_that_never_close_are_told_where_their_row_starts() {
    for end in ["\"", "\"C", "\"C\n", "\"C\r\nd@example.com,\"\"D\"\"\r\n", "\"C\"\""] {
        let file = format!("email,name\na@example.com,\"A\nA\"\nc@example.com,{end}");
        told(&workflow(), &file, &[(4, None, None, "unclosed_quote")]);
        told(&skipping(), &file, &[(4, None, None, "unclosed_quote")]);
    }
    for end in ["\"\"", "\"C\"", "C\"", "\"C\"\"\""] {
        let file = format!("email,name,age\na@example.com,A,\nc@example.com,C,{end}");
        assert!(!upload(&workflow(), &file).heard.iter().any(|f| f.code == FindingCode::UnclosedQuote), "{end}");
    }
    let swallowed = format!("email,name\na@example.com,\"A\n{}", "b@example.com,B\n".repeat(100_000));
    told(&workflow(), swallowed, &[(2, None, None, "unclosed_quote")]);
}

#[test]
fn limits_hold() {
    let row = |n| format!("n{n}@example.com,N\n");
    let file = |rows| format!("email,name\n{}", (0..rows).map(row).collect::<String>());
    assert_eq!(upload(&workflow(), file(1_000)).accepted().rows, 1_000);
    told(&workflow(), file(1_001), &[(1_002, None, None, "too_many_rows")]);
    let small = Workflow { max_bytes: 20, ..workflow() };
    assert!(matches!(upload(&small, file(10)).verdict, Err(Refused::TooLarge { max_bytes: 20 })));
    let long = format!("email,name\na@example.com,{}\nwrong,B\n", "x".repeat(records::MAX_RECORD_BYTES));
    told(&workflow(), long, &[(2, None, None, "field_too_long"), (3, Some("email"), Some(1), "invalid_value")]);
    told(&workflow(), format!("email,name\n{}\n", ",".repeat(5_000)), &[(2, None, None, "wrong_field_count")]);
}

#[test]
fn skipping_everything_leaves_no_rows() {
    let report = upload(&skipping(), "email,name\nwrong,A\nwrong too,B\n").report();
    assert_eq!((report.count, report.findings[0].code), (3, FindingCode::NoRows));
}

#[test]
fn what_a_result_file_says_of_its_rows_must_be_sound() {
    let header = "email,name,_batch,_row,_cells\n";
    let batch = crate::model::BatchId::random();
    for (own, place) in [
        ("x,1,", (2, Some("_batch"), Some(3), "invalid_value")),
        (&*format!("{batch},x,"), (2, Some("_row"), Some(4), "invalid_value")),
        (&*format!("{batch},,"), (2, Some("_row"), Some(4), "missing_value")),
        (",1,", (2, Some("_batch"), Some(3), "missing_value")),
        (",,maybe", (2, Some("_cells"), Some(5), "invalid_value")),
    ] {
        told(&workflow(), format!("{header}a@example.com,A,{own}\n"), &[place]);
    }
}

#[test]
fn broken_gzip_and_broken_uploads_are_told_apart() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(b"email,name\na@example.com,A\n").unwrap();
    let whole = encoder.finish().unwrap();
    for bytes in [&b"email,name\n"[..], &whole[..whole.len() - 1], &[&whole[..], b"trailing"].concat()] {
        let report = upload_as(&workflow(), bytes, true).report();
        assert_eq!(report.findings[0].code, FindingCode::BadGzip);
    }
    told(&workflow(), &whole, &[(1, None, None, "not_utf8")]);
    let broken_off = (&whole[..15]).chain(Failing);
    assert!(matches!(upload_as(&workflow(), broken_off, true).verdict, Err(Refused::Read(_))));
}

#[test]
fn a_storage_that_fails_ends_the_pass_at_once() {
    let rules = Rules::compile(&workflow()).unwrap();
    let options = Options { gzip: false, spool_dir: std::path::Path::new("/nowhere") };
    // Were the pass to go on, it would come to the input's own failure.
    let input = std::io::repeat(b'x').take(1 << 16).chain(Failing);
    let verdict = pass::run(input, &rules, options, Failing, &mut |_| Ok(()));
    assert!(matches!(verdict, Err(Refused::Tee(_))), "{verdict:?}");
}

struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
