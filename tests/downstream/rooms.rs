//! Admission: how many rows may be claimed.

use std::time::Duration;

use dripfeed::{downstream::CLAIM_AHEAD, model::Concurrency};

use crate::{
    fixture::{Fixture, PATIENCE, dependency},
    server::{Server, status},
};

#[test]
fn as_many_rows_as_can_be_called_soon_and_no_more() {
    let mut slow = dependency("http://127.0.0.1:9");
    (slow.rate_per_second, slow.burst, slow.concurrency) = (10.0, 2, Concurrency::Fixed(64));
    let fixture = Fixture::still(slow);
    let rows = |step| fixture.way.room(step, |_| 0).rows;
    // Twelve requests can leave within a second; a row has two to make, or one when it is at its last step.
    assert_eq!((rows(0), rows(1)), (6, 12));
    let mut reservations: Vec<_> = (0..6).map(|_| fixture.way.reserve(0)).collect();
    assert_eq!((rows(0), rows(1)), (0, 0));
    reservations[0].spend();
    reservations[0].spend();
    assert_eq!(rows(0), 1, "two calls were made");
    reservations.clear();
    assert_eq!(rows(0), 6, "what was not called is given back");
    assert_eq!(rows(9), 0, "there is no such step");
}

#[test]
fn no_room_before_the_next_slot_is_near() {
    let mut slow = dependency("http://127.0.0.1:9");
    (slow.rate_per_second, slow.burst) = (0.1, 1);
    let fixture = Fixture::still(slow);
    assert_eq!(fixture.way.room(0, |_| 0).rows, 1, "a row that needs more than there ever is gets in alone");
    drop(fixture.permit(PATIENCE).expect("the first slot"));
    let room = fixture.way.room(0, |_| 0);
    assert_eq!((room.rows, room.again_after), (0, Duration::from_secs(9)));
    fixture.clock.advance(room.again_after);
    assert_eq!(fixture.way.room(0, |_| 0).rows, 1);
}

#[test]
fn slow_answers_leave_room_for_what_can_be_under_way() {
    let mut narrow = dependency("http://127.0.0.1:9");
    narrow.concurrency = Concurrency::Fixed(2);
    let fixture = Fixture::still(narrow);
    let held = [fixture.permit(PATIENCE), fixture.permit(PATIENCE)];
    assert!(held.iter().all(Result::is_ok));
    fixture.clock.advance(Duration::from_secs(5));
    assert_eq!(fixture.way.room(1, |_| 0).rows, 0, "nothing has ended lately, and nothing can leave");
    drop(held);
    assert_eq!(fixture.way.room(1, |_| 0).rows, 2);
}

#[test]
fn a_closed_gate_leaves_no_room_and_a_half_open_one_for_a_single_row() {
    let server = Server::start(|_| status(500));
    let fixture = Fixture::still(dependency(&server.url()));
    (0..3).for_each(|_| drop(fixture.call()));
    let room = fixture.way.room(0, |_| 0);
    assert!(room.rows == 0 && room.again_after > CLAIM_AHEAD, "{room:?}");
    fixture.clock.advance(room.again_after);
    assert_eq!(fixture.way.room(1, |_| 0).rows, 1);
    let reserved = fixture.way.reserve(1);
    assert_eq!(fixture.way.room(1, |_| 0).rows, 0);
    drop(reserved);
}
