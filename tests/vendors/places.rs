//! An API that hangs, with as many requests at once as there are places for rows under way or more, leaves some to the others:
//! whoever was there first, and however wide the rows are.

use std::{fmt::Write, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    support::{
        app::{App, Setup},
        server::{Reply, Server},
    },
    zoo::{DISPATCH, add_client, api, between, created, ended, first_call, pass, people, setup, upload},
};

const UNDER_WAY: usize = 512;
const RATE: usize = 50;
const WATCHED: Duration = Duration::from_secs(8);
/// It would fill all places within the first second.
const HANGS: &str = "rate_per_second = 2000\nburst = 500\ntimeout = \"30s\"\nconcurrency = 10000";

struct World {
    hanging: Server,
    well: Server,
    app: App,
}

fn world(workers: &str) -> World {
    let (hanging, well) = (Server::start(|_| Reply::Silence), Server::start(created));
    let quick = format!("rate_per_second = {RATE}\nburst = 5");
    let apis = [api("hangs", &hanging, HANGS, "", ""), api("well", &well, &quick, "", "")];
    let setup = Setup { workers: workers.to_owned(), dispatch: DISPATCH.to_owned(), ..setup(&apis) };
    World { hanging, well, app: App::start(setup) }
}

impl World {
    /// The rate of the API that is well, from its first call on.
    fn assert_full_rate(&self, when: &str) {
        let first = first_call(&self.app, &self.well) + Duration::from_secs(1);
        pass(WATCHED + Duration::from_secs(1));
        let (calls, expected) = (between(&self.well, first, first + WATCHED), RATE * WATCHED.as_secs() as usize);
        assert!(calls * 10 >= expected * 9, "{when}: {calls} of {expected} calls");
    }

    fn until_all_is_taken(&self) {
        self.app.until("it has what it can have", || (self.hanging.calls() >= UNDER_WAY / 4 * 3).then_some(()));
        pass(Duration::from_secs(1));
        let calls = self.hanging.calls();
        assert!(calls < UNDER_WAY, "{calls} requests hang, and {UNDER_WAY} rows may be under way");
    }
}

#[test]
fn an_api_that_hangs_leaves_places_for_one_that_comes_later_and_says_what_its_rows_wait_for() {
    let world = world(&format!("under_way = {UNDER_WAY}"));
    let app = &world.app;
    upload(app, &app.key, "hangs", &people("hangs.example", 3_000));
    world.until_all_is_taken();
    // It is another client's, and none of its rows is under way.
    let others = add_client(app, "waits");
    let waits = upload(app, &others, "hangs", &people("waits.example", 10));
    let says = app.until("it says what it waits for", || {
        app.batch_of(&others, &waits)["waiting_for"]
            .as_str()
            .filter(|why| why.starts_with("hangs: "))
            .map(str::to_owned)
    });
    assert!(says.ends_with("`workers.under_way` keeps the other places for other dependencies"), "{says}");
    let key = add_client(app, "later");
    let id = upload(app, &key, "well", &people("well.example", RATE * 10));
    world.assert_full_rate("later");
    assert_eq!(ended(app, &key, &id)["counts"]["completed"], RATE * 10);
}

#[test]
fn an_api_that_is_called_when_another_one_begins_to_hang_keeps_its_rate() {
    let world = world(&format!("under_way = {UNDER_WAY}"));
    let app = &world.app;
    upload(app, &add_client(app, "first"), "well", &people("well.example", RATE * 30));
    first_call(app, &world.well);
    upload(app, &app.key, "hangs", &people("hangs.example", 3_000));
    world.until_all_is_taken();
    world.assert_full_rate("first");
}

/// Rows of an address, and of a note as wide as that, of which nothing can be left out.
fn wide(domain: &str, rows: usize, width: usize) -> String {
    let mut rng = StdRng::seed_from_u64(3);
    (1..=rows).fold("email,note\n".to_owned(), |mut csv, row| {
        let note: String = (0..width).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect();
        writeln!(csv, "p{row}@{domain},{note}").expect("written");
        csv
    })
}

#[test]
fn wide_rows_of_an_api_that_hangs_leave_room_for_those_of_another_one() {
    const WIDTH: usize = 40_000;
    let world = world(&format!("under_way = {UNDER_WAY}\nunder_way_bytes = \"4MiB\""));
    let app = &world.app;
    upload(app, &app.key, "hangs", &wide("hangs.example", 200, WIDTH));
    app.until("it has all the room that it can have", || (world.hanging.calls() >= 30).then_some(()));
    pass(Duration::from_secs(1));
    assert!(world.hanging.calls() < 100, "{} rows of {WIDTH} bytes are under way", world.hanging.calls());
    let key = add_client(app, "later");
    let id = upload(app, &key, "well", &wide("well.example", 40, WIDTH));
    let begun = first_call(app, &world.well);
    assert_eq!(ended(app, &key, &id)["counts"]["completed"], 40);
    assert!(begun.elapsed() < Duration::from_secs(15), "it took {:?}", begun.elapsed());
}
