//! Gates: who closes them, who is kept out, and how they open.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use dripfeed::{
    downstream::{GateReason, GateState, WaitReason, gate::RISKY_PROBES},
    model::{outcome::Outcome, workflow::Repeat},
};

use crate::{
    fixture::{Fixture, NOW, PATIENCE, dependency, workflow},
    server::{Reply, Server, closed_port, ok},
};

/// A server whose status can be turned; 429 and 503 ask for a minute.
fn moody() -> (Server, Arc<AtomicU16>) {
    let mood = Arc::new(AtomicU16::new(200));
    let turned = mood.clone();
    let server = Server::start(move |_| match mood.load(Ordering::SeqCst) {
        200 => ok(r#"{"link": "l-1"}"#),
        busy @ (429 | 503) => Reply::Answer(busy, vec![("Retry-After", "60".to_owned())], String::new()),
        other => Reply::Answer(other, Vec::new(), String::new()),
    });
    (server, turned)
}

fn is_counted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Transient { counted: true, .. })
}

fn poll(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::yield_now();
    }
}

#[test]
fn retry_after_closes_the_gate_for_all_and_one_probe_opens_it() {
    for (busy, reason) in [(429, GateReason::RateLimited), (503, GateReason::Unavailable)] {
        let (server, mood) = moody();
        let fixture = Fixture::still(dependency(&server.url()));
        mood.store(busy, Ordering::SeqCst);
        assert!(!is_counted(&fixture.call()), "{busy} is not an attempt");

        let wait = fixture.permit(Duration::ZERO).err().expect("the gate is closed");
        assert_eq!(wait.why, WaitReason::Gate(reason));
        let pause = wait.until.since(NOW);
        assert!((Duration::from_secs(60)..=Duration::from_secs(66)).contains(&pause), "{pause:?}");
        let gate = &fixture.downstream.status()[0].gate;
        assert_eq!((gate.open, gate.until), (false, Some(wait.until)));
        assert!(gate.reason.as_deref().is_some_and(|reason| reason.contains(&busy.to_string())));

        fixture.clock.advance(pause);
        mood.store(200, Ordering::SeqCst);
        let probe = fixture.permit(PATIENCE).expect("the pause is over");
        assert!(probe.is_probe());
        assert!(fixture.permit(Duration::ZERO).is_err(), "one probe at a time");
        drop(probe);
        assert!(matches!(fixture.call(), Outcome::Success { .. }));
        let free = fixture.permit(PATIENCE).expect("open");
        assert!(!free.is_probe() && fixture.downstream.status()[0].gate.open);
        assert_eq!(server.received().len(), 2);
    }
}

#[test]
fn failures_in_a_row_close_it_and_no_row_pays_for_its_probes() {
    let fixture = Fixture::still(dependency(&format!("http://{}", closed_port())));
    for _ in 0..3 {
        assert!(is_counted(&fixture.call()));
    }
    let wait = fixture.permit(Duration::ZERO).err().expect("the gate is closed");
    assert_eq!(wait.why, WaitReason::Gate(GateReason::Failing));
    let mut pause = wait.until.since(fixture.clock.now());
    for _ in 0..3 {
        fixture.clock.advance(pause);
        assert!(!is_counted(&fixture.call()), "the unanswered probe of a closed gate");
        let next = fixture.permit(Duration::ZERO).err().expect("closed again").until.since(fixture.clock.now());
        assert!(next > pause, "for longer");
        pause = next;
    }
}

#[test]
fn where_too_many_were_lost_that_are_never_sent_twice_a_person_is_asked_for() {
    let mut fixture = Fixture::still(dependency(&format!("http://{}", closed_port())));
    let mut never = workflow();
    never.steps[0].repeat = Repeat::Never;
    fixture.way = fixture.downstream.way(&never).expect("its dependency is there");
    for _ in 0..3 {
        fixture.call();
    }
    let reason = |fixture: &Fixture| fixture.downstream.status()[0].gate.reason.clone().expect("closed");
    for _ in 0..RISKY_PROBES {
        assert_eq!(fixture.way.asks_for_a_person(0), None);
        assert!(!reason(&fixture).contains("dripfeed row run"));
        let wait = fixture.permit(Duration::ZERO).err().expect("the gate is closed");
        fixture.clock.advance(wait.until.since(fixture.clock.now()));
        fixture.call();
    }
    let asked = Some(("addresses".to_owned(), GateReason::Failing));
    assert_eq!(fixture.way.asks_for_a_person(0), asked);
    fixture.clock.advance(Duration::from_secs(600));
    assert_eq!(fixture.way.asks_for_a_person(0), asked, "and nobody else is, when its time has come");
    assert!(fixture.permit(Duration::ZERO).is_err());
    assert!(reason(&fixture).starts_with("its last requests all failed; "), "{}", reason(&fixture));
    assert!(reason(&fixture).contains("dripfeed row run"), "{}", reason(&fixture));
    assert_eq!(fixture.way.asks_for_a_person(1), None, "what may be repeated finds out by itself");
}

#[test]
fn a_failing_server_is_left_alone_and_comes_back() {
    let (server, mood) = moody();
    let fixture = Fixture::still(dependency(&server.url()));
    mood.store(500, Ordering::SeqCst);
    for _ in 0..3 {
        assert!(is_counted(&fixture.call()));
    }
    let wait = fixture.permit(Duration::ZERO).err().expect("the gate is closed");
    mood.store(200, Ordering::SeqCst);
    fixture.clock.advance(wait.until.since(NOW));
    assert!(matches!(fixture.call(), Outcome::Success { .. }));
    assert_eq!((server.received().len(), fixture.downstream.status()[0].gate.open), (4, true));
}

#[test]
fn other_processes_and_later_starts_see_the_gate() {
    let (server, mood) = moody();
    let fixture = Fixture::still(dependency(&server.url()));
    mood.store(429, Ordering::SeqCst);
    fixture.call();
    poll("the saved gate", || fixture.ledger.gate().closed.is_some());

    let later = Fixture::new(dependency(&server.url()), fixture.ledger.clone(), fixture.clock.clone());
    let wait = later.permit(Duration::ZERO).err().expect("closed here too");
    fixture.clock.advance(wait.until.since(NOW));
    mood.store(200, Ordering::SeqCst);
    assert!(matches!(later.call(), Outcome::Success { .. }));
    // Opening: it is well, and kept as such, only after more than one success.
    poll("the opened gate", || fixture.ledger.gate() == GateState { closings: 1, ..GateState::default() });
    fixture.clock.advance(Duration::from_secs(2));
    poll("the news", || fixture.downstream.status()[0].gate.open);
    for _ in 0..31 {
        assert!(matches!(later.call(), Outcome::Success { .. }));
    }
    poll("the gate that is wide open", || fixture.ledger.gate() == GateState::default());
}

#[test]
fn whoever_comes_at_the_time_that_was_told_finds_it_open() {
    for _ in 0..20 {
        let (server, mood) = moody();
        let fixture = Fixture::still(dependency(&server.url()));
        mood.store(500, Ordering::SeqCst);
        (0..3).for_each(|_| drop(fixture.call()));
        let told = fixture.permit(Duration::ZERO).err().expect("the gate is closed").until;
        fixture.clock.advance(told.since(fixture.clock.now()));
        // The lease of its rate may still be on its way; the gate is not in the way any more.
        match fixture.permit(Duration::ZERO) {
            Ok(permit) => assert!(permit.is_probe()),
            Err(wait) => assert_eq!(wait.why, WaitReason::Rate),
        }
    }
}

#[test]
fn a_wall_clock_that_is_set_back_does_not_hold_it_closed() {
    let (server, mood) = moody();
    let fixture = Fixture::still(dependency(&server.url()));
    mood.store(500, Ordering::SeqCst);
    (0..3).for_each(|_| drop(fixture.call()));
    fixture.clock.set_wall(NOW.before(Duration::from_secs(3_600)));
    let told = fixture.permit(Duration::ZERO).err().expect("the gate is closed").until;
    let left = told.since(fixture.clock.now());
    assert!((Duration::from_secs(2)..=Duration::from_millis(2_200)).contains(&left), "{left:?}");
    fixture.clock.advance(left);
    mood.store(200, Ordering::SeqCst);
    assert!(matches!(fixture.call(), Outcome::Success { .. }));
}
