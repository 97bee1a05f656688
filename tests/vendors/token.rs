//! A credential that dies in mid batch costs a few rows, and not the rest of them.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::{
    support::server::{Server, status},
    zoo::{QUICK, add_client, api, app, created, domain, ended, people, upload},
};

/// What a batch pauses itself by, where nobody says otherwise.
const COSTS: u64 = 50;
/// Rows that may be under way when it does.
const UNDER_WAY: u64 = 40;

/// Refuses a client's rows from some time on, as for a permission that was taken away, or for an account that is closed.
#[test]
fn a_permission_that_ends_after_most_rows_costs_fifty_of_them_and_nobody_elses() {
    const WELL: usize = 600;
    let taken = AtomicUsize::new(0);
    let server = Server::start(move |request| match domain(request).as_str() {
        "dies.example" if taken.fetch_add(1, SeqCst) >= WELL => status(403),
        _ => created(request),
    });
    let app = app(&[api("crm", &server, QUICK, "", "")]);
    let (dies, lives) = (app.key.clone(), add_client(&app, "lives"));
    let of_dead = upload(&app, &dies, "crm", &people("dies.example", 1_000));
    let other = upload(&app, &lives, "crm", &people("lives.example", 400));

    let paused = |times: usize| {
        app.until("it pauses itself", || {
            let events = app.log().matches("batch.paused_itself").count();
            Some(app.batch_of(&dies, &of_dead)).filter(|batch| batch["paused"] == true && events == times)
        });
        app.until("what is under way has ended", || {
            Some(app.batch_of(&dies, &of_dead)).filter(|batch| batch["counts"]["processing"] == 0)
        })
    };
    let failed_of = |batch: &serde_json::Value| batch["counts"]["failed"].as_u64().expect("a count");
    let batch = paused(1);
    assert_eq!(batch["counts"]["completed"], WELL);
    let first = failed_of(&batch);
    assert!((COSTS..=COSTS + UNDER_WAY).contains(&first), "{batch}");
    assert!(app.log().contains("50 of its last 100 rows failed, the last one with `rejected` (HTTP 403) at crm"));

    // Who lets it go on without having mended it pays as much again, and no more.
    assert_eq!(app.post(&dies, &format!("/v2/batches/{of_dead}/resume")).0, 200);
    let again = failed_of(&paused(2)) - first;
    assert!((COSTS..=COSTS + UNDER_WAY).contains(&again), "{again}");
    let other = ended(&app, &lives, &other);
    assert_eq!((&other["counts"]["completed"], &other["paused"]), (&400.into(), &false.into()));
}
