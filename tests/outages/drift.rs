//! Somebody, or a fault of ours, has changed the counts that batches keep of their rows.

use crate::{
    assert_each_row_once, database,
    support::app::{App, Setup, people},
};

const ROWS: usize = 40;

#[test]
fn counts_that_drifted_stop_neither_the_start_nor_a_row_and_are_mended_and_told() {
    let mut app = App::start(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() });
    let ids: Vec<String> = (0..4).map(|batch| app.accepted(people(ROWS).replace('@', &format!("{batch}@")))).collect();
    ids.iter().for_each(|id| drop(app.until_status(id, "queued")));
    app.kill();
    // One batch with too little, one with too much, one that seems to have nothing to do, and one that is right.
    let database = database(&app);
    for (id, drift) in ids.iter().zip(["pending = 0, processing = 1", "pending = 90", "pending = 0, completed = total"])
    {
        database
            .execute_batch(&format!(
                "PRAGMA ignore_check_constraints = ON; UPDATE batches SET {drift} WHERE id = '{id}'"
            ))
            .expect("drifted");
    }
    app.serve();
    app.until("the three are counted anew", || (app.log().matches("batch.recounted").count() >= 3).then_some(()));
    assert_eq!(app.post(crate::support::app::OPERATOR, "/ops/v1/dispatch").0, 200);
    for id in &ids {
        let batch = app.until_status(id, "completed");
        assert_eq!((&batch["counts"]["completed"], &batch["counts"]["pending"]), (&ROWS.into(), &0.into()), "{batch}");
    }
    assert_each_row_once(&app, (4 * ROWS) as u64);
    assert!(!app.log().contains(&format!("\"batch.recounted\",\"batch\":\"{}\"", ids[3])), "the one that is right");
    app.terminate();
}
