//! A database that comes to a data folder in another way than by `restore` is noticed.

use std::fs;

use crate::{
    assert_paused_and_resume, move_to,
    support::app::{App, DISPATCH, OPERATOR},
    two_batches,
};

fn paused(app: &App) -> bool {
    let (_, overview) = app.get(OPERATOR, "/ops/v1/overview");
    !overview["dispatch"]["paused"].is_null()
}

#[test]
fn a_copy_of_the_database_pauses_dispatch_where_it_is_served_and_only_there() {
    let (mut app, [finished, waiting]) = two_batches("");
    app.terminate();
    app.serve();
    assert!(!paused(&app), "its own folder is no elsewhere");
    app.kill();
    let old = app.data_dir();
    let new = move_to(&app, "elsewhere");
    // As Litestream or a person would put it there, with a session and a claim of the old server's in it.
    fs::create_dir(&new).expect("a folder");
    for name in ["dripfeed.db", "dripfeed.db-wal"] {
        fs::copy(old.join(name), new.join(name)).expect("copied");
    }
    app.serve();
    assert!(app.log().contains("the database comes from elsewhere"), "{}", app.log());
    assert_eq!(app.batch(&finished)["status"], "completed");
    assert_eq!(app.batch(&waiting)["counts"]["pending"], 4);
    assert_paused_and_resume(&app, "put here from elsewhere");
    app.terminate();
    app.serve();
    assert!(!paused(&app), "it is at home now");
    app.post(DISPATCH, "/ops/v1/dispatch");
    app.until_status(&waiting, "completed");
    assert_eq!((app.stats().invites, app.stats().replayed), (7, 0));

    // The whole folder at another path is the same folder.
    app.terminate();
    let moved = move_to(&app, "moved");
    fs::rename(&new, &moved).expect("moved");
    app.serve();
    assert!(!paused(&app));
}
