//! An API that refuses some calls at random, whatever its rate, and asks for a second each time: it is left alone for that
//! second, and for no more.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    support::server::{Server, late},
    zoo::{api, app, created, first_call, pass, people, upload, with},
};

const RATE: usize = 50;
const LATENCY: Duration = Duration::from_millis(20);
/// So long it takes at most to tell such refusals from a limit; then it is watched.
const FOUND: Duration = Duration::from_secs(40);
const WATCHED: Duration = Duration::from_secs(40);

/// Of how many calls one is refused, and how many must come through in [`WATCHED`]: half of what is left of the full rate where
/// each refusal costs a second, the jitter of its pause, and the time in which a gate opens.
const CASES: [(&str, f64, usize); 2] = [("one-in-thirty", 0.03, 300), ("one-in-ten", 0.1, 60)];

#[test]
fn refusals_at_random_do_not_strangle_an_api() {
    let servers = CASES.map(|(_, share, _)| {
        let rng = Mutex::new(StdRng::seed_from_u64(7));
        let well = Mutex::new(Vec::new());
        let well: &'static Mutex<Vec<Instant>> = Box::leak(Box::new(well));
        let server = Server::start(move |request| {
            if rng.lock().expect("not poisoned").random_bool(share) {
                return late(LATENCY, with(429, "Retry-After", "1"));
            }
            well.lock().expect("not poisoned").push(Instant::now());
            late(LATENCY, created(request))
        });
        (server, well)
    });
    let keys = format!("rate_per_second = {RATE}\nburst = 5\ntimeout = \"5s\"");
    let apis: Vec<_> =
        CASES.iter().zip(&servers).map(|((name, ..), (server, _))| api(name, server, &keys, "", "")).collect();
    let app = app(&apis);
    let ids = CASES.map(|(name, ..)| upload(&app, &app.key, name, &people(&format!("{name}.example"), RATE * 100)));
    let firsts = servers.each_ref().map(|(server, _)| first_call(&app, server));
    pass(FOUND + WATCHED);
    for (((name, _, least), (_, well)), (first, id)) in CASES.iter().zip(&servers).zip(firsts.iter().zip(&ids)) {
        let watched = *first + FOUND..*first + FOUND + WATCHED;
        let came_through = well.lock().expect("not poisoned").iter().filter(|at| watched.contains(*at)).count();
        assert!(came_through >= *least, "{name}: {came_through} in {WATCHED:?} at {RATE} a second");
        assert_eq!(app.batch(id)["counts"]["failed"], 0, "{name}");
    }
}
