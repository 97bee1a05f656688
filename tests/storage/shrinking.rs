//! A big batch goes: the file gets shorter on the disk, in steps between which others write.

use crate::{
    size,
    support::app::{App, Setup, agent, people},
};

const FILE: &str = "dripfeed.db";
/// Rows of about 2 KB each.
const ROWS: usize = 10_000;
const BIG: u64 = 20_000_000;

/// A server that has extracted a big batch and works none of it; the batch's id.
fn with_a_big_batch(app: &App) -> String {
    let wide = "n".repeat(950);
    let mut csv = String::from("email,first_name,last_name,phone,postcode,house_number\n");
    csv.extend((1..=ROWS).map(|row| format!("w{row}@mail.example,{wide},{wide},,AB1 2CD,{}\n", row % 200 + 1)));
    let id = app.accepted(csv);
    app.until_status(&id, "queued");
    assert_eq!(app.post(&app.key, &format!("/v2/batches/{id}/cancel")).0, 200);
    app.until_status(&id, "cancelled");
    app.until("the rows are in the file", || (size(app, FILE) > BIG).then_some(()));
    id
}

fn delete(app: &App, id: &str) {
    let request = agent().delete(app.url(&format!("/v2/batches/{id}")));
    let answer = request.header("Authorization", format!("Bearer {}", app.key)).call().expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
}

fn quiet() -> Setup {
    // A small log, so that what was written is in the file soon.
    Setup { dispatch: String::new(), more: "[database]\nwal_limit = \"1MiB\"".into(), ..Setup::default() }
}

fn assert_sound(app: &App) {
    let doctor = app.command(&["doctor", "--full"]);
    let said = String::from_utf8(doctor.stdout).expect("text");
    assert!(said.contains("integrity_check finds nothing"), "{said}");
}

#[test]
fn the_file_shrinks_after_a_purge_and_others_write_meanwhile() {
    let app = App::start(quiet());
    let id = with_a_big_batch(&app);
    let before = size(&app, FILE);
    let purged = app.command(&["purge", "--older-than", "0s", "--apply"]);
    assert!(purged.status.success(), "{purged:?}");
    let mut written = Vec::new();
    let after = app.until("the file is short", || {
        // Each is a write that is answered after its commit.
        written.push(app.accepted(people(written.len() + 1)));
        Some(size(&app, FILE)).filter(|size| *size < before / 10)
    });
    println!("{before} bytes before, {after} after, {} uploads meanwhile", written.len());
    assert_eq!(app.get(&app.key, &format!("/v2/batches/{id}")).0, 404);
    for (id, rows) in written.iter().zip(1_u64..) {
        assert_eq!(app.until_status(id, "queued")["counts"]["pending"], rows);
    }
    assert_sound(&app);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_server_that_died_while_it_gave_room_back_goes_on_when_it_is_there_again() {
    let mut app = App::prepared(quiet());
    app.launch(&[("FAILPOINTS", "room.between_steps=5*off->return")]);
    assert!(app.listens());
    let id = with_a_big_batch(&app);
    let before = size(&app, FILE);
    delete(&app, &id);
    assert!(app.ends_within(crate::support::app::DEADLINE).is_some(), "it dies between two steps");
    app.serve();
    let kept = app.accepted(people(2));
    app.until("the file is short", || (size(&app, FILE) < before / 10).then_some(()));
    assert_eq!(app.until_status(&kept, "queued")["counts"]["pending"], 2);
    assert_sound(&app);
}
