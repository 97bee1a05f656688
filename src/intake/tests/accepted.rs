//! Files that batches are made of, however they were written, and what extraction reads in them.

use std::io::Write;

use sha2::{Digest, Sha256};

use super::*;
use crate::model::BatchId;

const PLAIN: &str = "email,name,age\nada@example.com,Ada,36\nbob@example.com,Bob,\n";

#[test]
fn line_ends_marks_and_delimiters_make_no_difference() {
    let blank_lines = format!("\n\n{PLAIN}\n\n\r\n");
    for (file, lines) in [
        (PLAIN.to_owned(), [2, 3]),
        (PLAIN.trim_end().to_owned(), [2, 3]),
        (PLAIN.replace('\n', "\r\n"), [2, 3]),
        (PLAIN.replace('\n', "\r"), [2, 3]),
        (format!("\u{feff}{PLAIN}"), [2, 3]),
        (PLAIN.replace(',', ";"), [2, 3]),
        (PLAIN.replace(',', "\t"), [2, 3]),
        (PLAIN.replacen("email", "\u{feff}\"E-Mail\"", 1).replace("E-Mail", " EMAIL "), [2, 3]),
        (PLAIN.replace("name", "full name"), [2, 3]),
        (blank_lines, [4, 5]),
        (PLAIN.replace("\nbob", "\r\n\r\n\rbob"), [2, 5]),
    ] {
        let upload = upload(&workflow(), &file);
        assert_eq!(upload.stored, file.as_bytes(), "every byte is stored: {file:?}");
        let accepted = upload.accepted();
        assert_eq!((accepted.rows, accepted.skipped, accepted.bytes), (2, 0, file.len() as u64), "{file:?}");
        assert_eq!(accepted.sha256, <[u8; 32]>::from(Sha256::digest(&file)));
        let rows = rows(file.as_bytes(), &accepted.header);
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), lines, "{file:?}");
        assert_eq!(rows[0].2, ["ada@example.com", "Ada", "36"]);
        assert_eq!(rows[1].2, ["bob@example.com", "Bob", ""]);
    }
}

#[test]
fn delimiters_other_than_a_comma_and_absent_columns_are_told() {
    let accepted = upload(&workflow(), "email;name\na@example.com;A, really\n").accepted();
    assert_eq!(accepted.header.delimiter, Delimiter::Semicolon);
    assert_eq!(accepted.warnings.len(), 2, "{:?}", accepted.warnings);
    assert!(upload(&workflow(), PLAIN).accepted().warnings.is_empty());
}

#[test]
fn quoted_fields_keep_delimiters_quotes_and_newlines() {
    let file = "name,email\r\n\"Ada \"\"the\"\"\r\n, Countess\",a@example.com\r\n\" Bob \",b@example.com\r\n";
    let workflow = Workflow {
        columns: vec![column("email", ColumnKind::Email, true), column("name", ColumnKind::Text, true)],
        ..workflow()
    };
    let header = upload(&workflow, file).accepted().header;
    let rows = rows(file.as_bytes(), &header);
    assert_eq!(rows[0], (2, String::new(), vec!["Ada \"the\"\r\n, Countess".into(), "a@example.com".into()]));
    assert_eq!(rows[1], (4, String::new(), vec![" Bob ".into(), "b@example.com".into()]));
}

#[test]
fn gzip_is_stored_inflated() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(PLAIN.as_bytes()).unwrap();
    let upload = upload_as(&workflow(), encoder.finish().unwrap().as_slice(), true);
    assert_eq!(upload.stored, PLAIN.as_bytes());
    assert_eq!(upload.accepted().bytes, PLAIN.len() as u64);
}

#[test]
fn extra_columns_are_kept_where_the_workflow_says_so() {
    let file = "Note ,email,_mine,name\nhello,a@example.com,x,A\n";
    let accepted = upload(&keeping(), file).accepted();
    let names: Vec<_> = accepted.header.kept().map(HeaderColumn::template_name).collect();
    assert_eq!(names, ["Note", "email", "name"]);
    assert_eq!(accepted.header.columns[0].name, "Note ");
    assert_eq!(rows(file.as_bytes(), &accepted.header)[0].2, ["hello", "a@example.com", "A"]);
}

#[test]
fn a_result_file_comes_back_with_its_origins_and_unprotected() {
    let batch = BatchId::random();
    let file = format!(
        "email,name,_batch,_row,_line,_status,_cells\n\
         a@example.com,'=SUM(A1),{batch},7,9,failed,safe\n\
         b@example.com,'=SUM(A1),{batch},8,10,failed,raw\n\
         c@example.com,''quoted,{batch},9,11,failed,safe\n\
         d@example.com,'tis,,,,,safe\n"
    );
    let header = upload(&workflow(), &file).accepted().header;
    let stored = serde_json::to_string(&header).unwrap();
    let rows = rows(file.as_bytes(), &serde_json::from_str(&stored).unwrap());
    assert_eq!(rows[0], (2, format!("{batch}/7"), vec!["a@example.com".into(), "=SUM(A1)".into()]));
    assert_eq!(rows[1], (3, format!("{batch}/8"), vec!["b@example.com".into(), "'=SUM(A1)".into()]));
    assert_eq!(rows[2].2[1], "'quoted");
    assert_eq!((rows[3].1.as_str(), rows[3].2[1].as_str()), ("", "'tis"));
}

#[test]
fn invalid_rows_are_skipped_where_the_workflow_says_so() {
    let file = "email,name\n\
                a@example.com,A\n\
                wrong,\n\
                b@example.com\n\
                A@example.com,again\n\
                c@example.com,\n\
                c@example.com,C\n";
    let upload = upload(&skipping(), file);
    let heard: Vec<_> = upload.heard.iter().map(|finding| (finding.line, finding.code.as_str())).collect();
    assert_eq!(
        heard,
        [
            (3, "invalid_value"),
            (3, "missing_value"),
            (4, "wrong_field_count"),
            (6, "missing_value"),
            (5, "duplicate_value")
        ]
    );
    assert_eq!(upload.stored, file.as_bytes());
    let accepted = upload.accepted();
    assert_eq!((accepted.rows, accepted.skipped), (2, 4), "c@ on line 6 was left out, so line 7 is no duplicate");
}

#[test]
fn a_row_too_long_to_read_is_skipped_like_any_other() {
    let long = "x".repeat(records::MAX_RECORD_BYTES + 1);
    let file = format!("email,name\na@example.com,A\nb@example.com,{long}\nc@example.com,C\n");
    let upload = upload(&skipping(), &file);
    assert_eq!((upload.heard[0].line, upload.heard[0].code), (3, FindingCode::FieldTooLong));
    let accepted = upload.accepted();
    assert_eq!((accepted.rows, accepted.skipped), (2, 1));
    let lines: Vec<_> = rows(file.as_bytes(), &accepted.header).into_iter().map(|row| row.0).collect();
    assert_eq!(lines, [2, 3, 4], "the caller leaves out line 3");
}
