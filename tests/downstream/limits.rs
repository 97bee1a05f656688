//! Rate and concurrency, with real threads on the machine's clock.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dripfeed::{
    clock::Clock,
    downstream::WaitReason,
    model::{Concurrency, Dependency},
};

use crate::{
    fixture::{Fixture, NOW, PATIENCE, dependency},
    server::{Reply, Server, late, ok},
};

/// The most instants in any half-open second.
fn busiest_second(mut instants: Vec<Instant>) -> usize {
    instants.sort();
    let within =
        |from: &Instant| instants.iter().filter(|at| *at >= from && **at - *from < Duration::from_secs(1)).count();
    instants.iter().map(within).max().unwrap_or(0)
}

/// Takes permits in some threads, and notes when.
fn take(fixture: &Fixture, threads: usize, permits: usize) -> Vec<Instant> {
    let taken = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..permits {
                    let permit = fixture.permit(PATIENCE).expect("in time");
                    taken.lock().expect("not poisoned").push(Instant::now());
                    drop(permit);
                }
            });
        }
    });
    taken.into_inner().expect("not poisoned")
}

#[test]
fn no_second_holds_more_than_rate_and_burst_over_a_restart_and_a_second_process() {
    let mut slow = dependency("http://127.0.0.1:9");
    (slow.rate_per_second, slow.burst) = (40.0, 4);
    let first = Fixture::live(slow.clone());
    let mut taken = take(&first, 4, 10);
    let ledger = first.ledger.clone();
    drop(first);
    let after_a_restart = Fixture::new(slow.clone(), ledger.clone(), Clock::machine());
    let beside_it = Fixture::new(slow, ledger, Clock::machine());
    thread::scope(|scope| {
        let other = scope.spawn(|| take(&beside_it, 2, 8));
        taken.extend(take(&after_a_restart, 3, 8));
        taken.extend(other.join().expect("no panic"));
    });
    assert_eq!(taken.len(), 80);
    // The instants are noted a little after the release, which can move one of them into a window.
    assert!(busiest_second(taken.clone()) <= 44 + 1, "{}", busiest_second(taken));
}

#[test]
fn concurrency_is_never_exceeded_and_is_used() {
    let under_way = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (counting, highest) = (under_way.clone(), most.clone());
    let server = Server::start(move |_| {
        highest.fetch_max(counting.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(5));
        counting.fetch_sub(1, Ordering::SeqCst);
        ok(r#"{"link": "l-1"}"#)
    });
    let mut narrow = dependency(&server.url());
    narrow.concurrency = Concurrency::Fixed(3);
    let fixture = Fixture::live(narrow);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..10).for_each(|_| drop(fixture.call())));
        }
    });
    assert_eq!((server.received().len(), most.load(Ordering::SeqCst)), (80, 3));
    assert_eq!(server.connections(), 3, "each is kept and used again");
}

#[test]
fn left_to_what_is_measured_a_slow_api_is_called_at_its_rate_and_a_quick_one_over_few_connections() {
    const RATE: f64 = 100.0;
    /// Until then it has begun small, and measured.
    const MEASURED: Duration = Duration::from_secs(3);
    const WATCHED: Duration = Duration::from_secs(2);
    for (latency, least, most) in [(400, 40, 80), (10, 1, 16)] {
        let server = Server::start(move |_| late(Duration::from_millis(latency), ok(r#"{"link": "l-1"}"#)));
        let mut auto = dependency(&server.url());
        (auto.rate_per_second, auto.burst, auto.concurrency) = (RATE, 1, Concurrency::Auto);
        let fixture = Fixture::live(auto);
        let begun = Instant::now();
        thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    while begun.elapsed() < MEASURED + WATCHED {
                        drop(fixture.call())
                    }
                });
            }
        });
        let received = server.received();
        let watched = begun + MEASURED..begun + MEASURED + WATCHED;
        let calls = received.iter().filter(|request| watched.contains(&request.at)).count() as f64;
        let given = calls / (RATE * WATCHED.as_secs_f64());
        // Sixteen at once would be 0.4 of it. How closely it is used up the tests of the state machine hold: here others run.
        assert!(given >= 0.75, "{latency} ms: {given} of its rate");
        assert!((least..=most).contains(&server.connections()), "{latency} ms: {} connections", server.connections());
        assert_eq!(fixture.downstream.status()[0].in_flight, 0);
    }
}

#[test]
fn nothing_leaves_while_an_answer_says_that_nothing_remains_and_a_lie_holds_for_a_minute_at_most() {
    const A_MINUTE: u64 = 60;
    for (adapt, reset, held) in [(true, "30", Some(30)), (true, "4102444800", Some(A_MINUTE)), (false, "30", None)] {
        let answer = move || {
            Reply::Answer(
                200,
                vec![("X-RateLimit-Remaining", "0".to_owned()), ("X-RateLimit-Reset", reset.to_owned())],
                r#"{"link": "l-1"}"#.to_owned(),
            )
        };
        let server = Server::start(move |_| answer());
        let fixture = Fixture::still(Dependency { adapt, ..dependency(&server.url()) });
        drop(fixture.call());
        let wait = fixture.permit(PATIENCE).err();
        assert_eq!(
            wait.map(|wait| (wait.until, wait.why)),
            held.map(|held| (NOW.after(Duration::from_secs(held)), WaitReason::Rate))
        );
        assert_eq!(fixture.way.room(0, |_| 0).rows == 0, held.is_some(), "no row is claimed for it");
        assert!(fixture.downstream.gate("addresses").is_none(), "and its gate is open");
        fixture.clock.advance(Duration::from_secs(A_MINUTE));
        assert!(fixture.permit(PATIENCE).is_ok());
    }
}

#[test]
fn who_cannot_be_served_in_time_is_told_at_once_and_spends_nothing() {
    let mut slow = dependency("http://127.0.0.1:9");
    (slow.rate_per_second, slow.burst, slow.concurrency) = (0.01, 1, Concurrency::Fixed(1));
    let fixture = Fixture::still(slow);
    let permit = fixture.permit(PATIENCE).expect("the first slot");
    let wait = fixture.permit(Duration::from_secs(1)).err().expect("the next slot is far away");
    assert_eq!((wait.why, wait.until), (WaitReason::Rate, NOW.after(Duration::from_secs(100))));
    fixture.clock.advance(Duration::from_secs(100));
    let wait = fixture.permit(Duration::ZERO).err().expect("the first request is still under way");
    assert_eq!(wait.why, WaitReason::Concurrency);
    drop(permit);
    assert!(fixture.permit(PATIENCE).is_ok(), "its slot did not burn");
}

#[test]
fn a_rate_holds_from_the_next_request_on_whoever_set_it() {
    let mut slow = dependency("http://127.0.0.1:9");
    (slow.rate_per_second, slow.burst) = (0.01, 1);
    let fixture = Fixture::live(slow);
    drop(fixture.permit(PATIENCE).expect("the first slot"));
    assert!(fixture.permit(Duration::from_secs(1)).is_err());
    fixture.ledger.set_rate(200.0);
    fixture.downstream.set_rate("addresses", 200.0).expect("a rate");
    take(&fixture, 2, 20);
    assert_eq!(fixture.downstream.status()[0].rate_per_second, 200.0);
    assert!(fixture.downstream.set_rate("addresses", 0.0).is_err() && fixture.downstream.set_rate("x", 1.0).is_err());

    fixture.ledger.set_rate(300.0);
    let deadline = Instant::now() + PATIENCE;
    while fixture.downstream.status()[0].rate_per_second != 300.0 {
        assert!(Instant::now() < deadline, "what another process set is not seen");
        thread::yield_now();
    }
}

#[test]
fn closing_sends_home_who_waits() {
    let mut slow = dependency("http://127.0.0.1:9");
    slow.concurrency = Concurrency::Fixed(1);
    let fixture = Fixture::live(slow);
    let held = fixture.permit(PATIENCE).expect("a permit");
    let waiting = AtomicBool::new(false);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            waiting.store(true, Ordering::SeqCst);
            fixture.permit(PATIENCE).err().expect("closed").why
        });
        while !waiting.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        fixture.downstream.close();
        assert_eq!(waiter.join().expect("no panic"), WaitReason::Closing);
    });
    drop(held);
}

#[test]
fn without_the_ledger_nothing_leaves() {
    let fixture = Fixture::still(dependency("http://127.0.0.1:9"));
    fixture.ledger.broken.store(true, Ordering::SeqCst);
    assert_eq!(fixture.permit(PATIENCE).err().map(|wait| wait.why), Some(WaitReason::Ledger));
    fixture.ledger.broken.store(false, Ordering::SeqCst);
    fixture.clock.advance(Duration::from_secs(1));
    assert!(fixture.permit(PATIENCE).is_ok());
}
