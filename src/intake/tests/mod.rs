//! Whole uploads against whole verdicts.

mod accepted;
mod arrival;
mod properties;
mod refused;

use std::{borrow::Cow, io, time::Duration};

use super::*;
use crate::model::{
    Column, ColumnKind, Workflow,
    workflow::{ExtraColumns, FailureLimit, OnInvalidRow},
};

fn column(name: &str, kind: ColumnKind, required: bool) -> Column {
    let unique = name == "email";
    Column { name: name.into(), aliases: vec![], kind, required, unique, max_length: Column::DEFAULT_MAX_LENGTH }
}

/// A unique e-mail address, a required name that may also be called `full name`, and an optional age.
fn workflow() -> Workflow {
    let name = Column { aliases: vec!["Full Name".into()], max_length: 20, ..column("name", ColumnKind::Text, true) };
    Workflow {
        name: "invite".into(),
        upload_path: "/invite".into(),
        max_rows: 1_000,
        max_bytes: 10_000_000,
        max_attempts: 5,
        on_invalid_row: OnInvalidRow::Reject,
        extra_columns: ExtraColumns::Reject,
        duplicate_window: Duration::ZERO,
        give_up_after: Duration::ZERO,
        repeat_window: Duration::ZERO,
        failure_limit: FailureLimit::DEFAULT,
        columns: vec![column("email", ColumnKind::Email, true), name, column("age", ColumnKind::Integer, false)],
        steps: vec![],
    }
}

fn skipping() -> Workflow {
    Workflow { on_invalid_row: OnInvalidRow::Skip, ..workflow() }
}

fn keeping() -> Workflow {
    Workflow { extra_columns: ExtraColumns::Keep, ..workflow() }
}

/// What came of an upload, with what was stored and told on the way.
struct Upload {
    verdict: Result<Accepted, Refused>,
    stored: Vec<u8>,
    heard: Vec<Finding>,
}

fn upload(workflow: &Workflow, file: impl AsRef<[u8]>) -> Upload {
    upload_as(workflow, file.as_ref(), false)
}

fn upload_as(workflow: &Workflow, input: impl io::Read, gzip: bool) -> Upload {
    let rules = Rules::compile(workflow).unwrap();
    let spool = tempfile::tempdir().unwrap();
    let (mut stored, mut heard) = (Vec::new(), Vec::new());
    let mut listener = |finding: &Finding| {
        heard.push(finding.clone());
        Ok(())
    };
    let options = Options { gzip, spool_dir: spool.path() };
    let verdict = pass::run(input, &rules, options, &mut stored, &mut listener);
    Upload { verdict, stored, heard }
}

impl Upload {
    fn accepted(self) -> Accepted {
        self.verdict.unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    fn report(self) -> Report {
        match self.verdict {
            Err(Refused::Invalid(report)) => report,
            other => panic!("{other:?}"),
        }
    }

    /// Line, column, column number and code of each finding.
    fn places(self) -> Vec<(u64, Option<String>, Option<u32>, &'static str)> {
        let place = |f: Finding| (f.line, f.column, f.column_number, f.code.as_str());
        self.report().findings.into_iter().map(place).collect()
    }
}

/// The rows of an accepted file, as extraction reads them: line, origin, cells.
fn rows(file: &[u8], header: &Header) -> Vec<(u64, String, Vec<String>)> {
    let mut rows = Rows::open(file, header).unwrap();
    let mut all = Vec::new();
    while let Some(row) = rows.read().unwrap() {
        let origin = row.origin().map(|origin| origin.to_string()).unwrap_or_default();
        all.push((row.line(), origin, row.cells().map(Cow::into_owned).collect()));
    }
    all
}
