//! What is true in the end, whatever happened: asked of the API, of the database, of the folder and of the downstream.

use std::fmt;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::{
    files::Workflow,
    support::app::{App, files},
    uploader::Uploaded,
};

/// What became of all rows.
#[derive(Debug, Default)]
pub struct Verdict {
    completed: u32,
    /// Honestly so: they were in flight at a death, or were never answered.
    outcome_unknown: u32,
    /// Those of them that were invited all the same.
    unknown_but_invited: u32,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { completed, outcome_unknown, unknown_but_invited } = self;
        write!(
            f,
            "{completed} rows completed, {outcome_unknown} with unknown outcome ({unknown_but_invited} of them invited)"
        )
    }
}

/// Waits until all is done, ends the server in order, and looks at everything.
pub fn of(app: &mut App, uploaded: &[Uploaded]) -> Verdict {
    let mut verdict = Verdict::default();
    for batch in uploaded {
        app.until(&format!("{} is completed", batch.id), || {
            Some(app.batch_of(&batch.key, &batch.id)).filter(|found| found["status"] == "completed")
        });
        verdict.check_rows(app, batch);
    }
    verdict.check_downstream(app);
    assert_eq!(app.terminate(), Some(0));
    check_database(app, uploaded);
    let stored = files(&app.data_dir().join("objects"));
    assert_eq!(stored.len(), uploaded.len(), "a file for each batch, and nothing half written: {stored:?}");
    verdict
}

impl Verdict {
    /// Every row is there, and is completed or honestly unknown.
    fn check_rows(&mut self, app: &App, batch: &Uploaded) {
        let before = (self.completed, self.outcome_unknown);
        let rows = app.rows_of(&batch.key, &batch.id);
        assert_eq!(rows.len(), batch.file.rows as usize, "every row of {} is there", batch.id);
        for (number, row) in (1..).zip(&rows) {
            let email = batch.file.email(number);
            assert_eq!((&row["row"], &row["data"]["email"]), (&number.into(), &Value::from(email.as_str())));
            self.check_row(row, batch.file.workflow, app.simulator.times_invited(&email));
        }
        let counts = &app.batch_of(&batch.key, &batch.id)["counts"];
        let counted = (self.completed - before.0, self.outcome_unknown - before.1);
        assert_eq!((&counts["completed"], &counts["failed"]), (&counted.0.into(), &counted.1.into()), "{}", batch.id);
    }

    pub fn assert_unknown_at_most(&self, explained: u32) {
        assert!(self.outcome_unknown <= explained, "{self}, and only {explained} can be explained");
    }

    fn check_row(&mut self, row: &Value, workflow: Workflow, times_invited: u32) {
        match (workflow, row["status"].as_str(), row["error"]["code"].as_str()) {
            (_, Some("completed"), None) => {
                assert!(row["check_id"].is_string(), "its answer is kept: {row}");
                assert_eq!(times_invited, 1, "completed means invited, once: {row}");
                self.completed += 1;
            }
            // Errors and silences are tried again many times, so nothing else may end a row; and where the step can be
            // repeated, not even this.
            (Workflow::Once, Some("failed"), Some("outcome_unknown")) => {
                assert!(times_invited <= 1, "what may have been done is not done again: {row}");
                self.outcome_unknown += 1;
                self.unknown_but_invited += times_invited;
            }
            _ => panic!("a row ended as no error and no crash explains: {row}"),
        }
    }

    /// Nobody was invited who is not in these files, and nobody twice.
    fn check_downstream(&self, app: &App) {
        let stats = app.stats();
        assert_eq!(stats.duplicate_invites, 0);
        assert_eq!(stats.invites, u64::from(self.completed + self.unknown_but_invited));
    }
}

/// What a server that ended in order leaves behind: sound, recounted, and nothing half done.
fn check_database(app: &App, uploaded: &[Uploaded]) {
    let path = app.data_dir().join("dripfeed.db");
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the database");
    let text = |sql: &str| database.query_row(sql, [], |row| row.get::<_, String>(0)).expect("a value");
    let number = |sql: &str| database.query_row(sql, [], |row| row.get::<_, u32>(0)).expect("a number");
    assert_eq!(text("PRAGMA integrity_check"), "ok");
    assert_eq!(number("SELECT count(*) FROM batches"), uploaded.len() as u32, "a batch for each file, and no other");
    let miscounted = "SELECT count(*) FROM batches
        WHERE (total, pending, processing, completed, failed, cancelled) IS NOT
              (SELECT count(*), count(*) FILTER (WHERE status = 'pending'),
                      count(*) FILTER (WHERE status = 'processing'), count(*) FILTER (WHERE status = 'completed'),
                      count(*) FILTER (WHERE status = 'failed'), count(*) FILTER (WHERE status = 'cancelled')
               FROM rows WHERE row >> 24 = batch)";
    assert_eq!(number(miscounted), 0, "every count is what a recount of the rows finds");
    for table in ["uploads", "processes"] {
        assert_eq!(number(&format!("SELECT count(*) FROM {table}")), 0, "nothing is left in {table}");
    }
}
