//! What a gate promises, whatever an API does and whoever sets the clock.

use proptest::{collection::vec, prelude::*};
use rand::{SeedableRng, rngs::StdRng};

use super::*;

const WALL: Timestamp = Timestamp(1_786_000_000_000);
const SECOND: i64 = 1_000_000_000;
const HOUR: Duration = Duration::from_secs(3_600);
const START: Now = Now { steady: 50 * SECOND, wall: WALL };

fn gate() -> Gate {
    Gate::new(GateState::default(), 3, HOUR, START)
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(12)
}

/// So much later on both clocks.
fn after(now: Now, by: Duration) -> Now {
    Now { steady: later(now.steady, by), wall: now.wall.after(by) }
}

fn opens(gate: &Gate, now: Now) -> Now {
    let left = gate.opens_at().expect("closed") - now.steady;
    after(now, Duration::from_nanos(left as u64))
}

fn busy(seconds: u64) -> Health {
    Health::Busy { reason: GateReason::RateLimited, retry_after: Some(Duration::from_secs(seconds)) }
}

fn leave(gate: &mut Gate, now: Now) -> Passage {
    let passage = gate.passage(now).expect("the gate lets it pass");
    gate.pass(passage);
    passage
}

/// Reports what a request that may pass now came to.
fn send(gate: &mut Gate, now: Now, health: Health) -> bool {
    let passage = leave(gate, now);
    gate.report(passage, health, now, &mut rng())
}

fn reason(gate: &Gate) -> Option<GateReason> {
    gate.state().closed.map(|closed| closed.reason)
}

fn pause(gate: &Gate, now: Now) -> Duration {
    gate.left(now)
}

/// Lets requests succeed until it is wide open.
fn open_wide(gate: &mut Gate, now: Now) {
    while !gate.is_open() || gate.allowance().is_some() {
        send(gate, now, Health::Well);
    }
}

#[test]
fn failures_in_a_row_close_it_and_a_success_between_them_does_not() {
    let mut gate = gate();
    for health in [Health::Failing, Health::Failing, Health::Well, Health::Failing, Health::Failing] {
        assert!(!send(&mut gate, START, health));
    }
    assert!(send(&mut gate, START, Health::Failing), "the third in a row");
    assert_eq!(reason(&gate), Some(GateReason::Failing));
    assert!(gate.passage(START).is_err());
    assert!((FIRST_PAUSE..=FIRST_PAUSE.mul_f64(1.0 + JITTER)).contains(&pause(&gate, START)));
}

#[test]
fn five_times_401_close_it_and_only_a_good_answer_begins_the_count_anew() {
    let mut gate = gate();
    let row = [Health::Unauthorized, Health::Failing];
    for _ in 0..4 {
        row.iter().for_each(|health| assert!(!send(&mut gate, START, *health)));
    }
    assert!(!send(&mut gate, START, Health::Well));
    for _ in 0..4 {
        row.iter().for_each(|health| assert!(!send(&mut gate, START, *health)));
    }
    assert!(send(&mut gate, START, Health::Unauthorized), "the fifth");
    assert_eq!(reason(&gate), Some(GateReason::Unauthorized));
    let probed = opens(&gate, START);
    assert!(send(&mut gate, probed, Health::Unauthorized) && pause(&gate, probed) >= FIRST_PAUSE * 2);
}

#[test]
fn one_row_that_is_refused_does_not_keep_a_gate_from_opening() {
    let mut gate = gate();
    send(&mut gate, START, busy(1));
    let now = opens(&gate, START);
    send(&mut gate, now, Health::Well);
    for place in 0..60 {
        send(&mut gate, now, if place % 3 == 0 { Health::Unauthorized } else { Health::Well });
    }
    assert_eq!(gate.state(), GateState::default());
}

#[test]
fn after_the_pause_exactly_one_probe_passes_and_its_success_opens_for_a_few_at_a_time() {
    let mut gate = gate();
    send(&mut gate, START, busy(1));
    let now = opens(&gate, START);
    let probe = leave(&mut gate, now);
    assert!(probe.is_probe() && matches!(gate.passage(now), Err(Shut::Probing(_))));
    gate.not_sent(probe);
    let probe = leave(&mut gate, now);
    assert!(probe.is_probe() && gate.report(probe, Health::Well, now, &mut rng()));
    assert_eq!(gate.state(), GateState { closed: None, closings: 1, risked: 0 });

    let mut allowed = Vec::new();
    while let Some(most) = gate.allowance() {
        allowed.push(most);
        let round: Vec<_> = (0..most).map(|_| leave(&mut gate, now)).collect();
        assert!(round.iter().all(|passage| !passage.is_probe()));
        for passage in round {
            gate.report(passage, Health::Well, now, &mut rng());
        }
    }
    assert_eq!((allowed, gate.state()), (vec![1, 2, 4, 8, 16], GateState::default()));
}

#[test]
fn an_api_that_errs_now_and_then_gets_through_its_opening() {
    let mut gate = gate();
    send(&mut gate, START, busy(0));
    let now = opens(&gate, START);
    for number in 0.. {
        if gate.is_open() && gate.allowance().is_none() {
            assert_eq!(gate.state().closings, 0);
            assert!(number > 31, "it erred while it opened");
            return;
        }
        let health = if number % 4 == 3 { Health::Failing } else { Health::Well };
        send(&mut gate, now, health);
        assert!(gate.is_open(), "closed after {number}");
    }
}

#[test]
fn what_closes_it_while_it_opens_closes_it_for_longer() {
    for (health, before) in [(Health::Failing, 1), (busy(0), 0)] {
        let mut gate = gate();
        let mut now = START;
        let mut pauses = Vec::new();
        send(&mut gate, now, busy(0));
        // A few good answers in between are not yet an API that is well.
        for successes in [1, 2, 2, 1] {
            pauses.push(pause(&gate, now));
            now = opens(&gate, now);
            for _ in 0..successes {
                send(&mut gate, now, Health::Well);
            }
            for _ in 0..before {
                assert!(!send(&mut gate, now, health), "one failure alone is not enough");
            }
            assert!(send(&mut gate, now, health), "it closes");
        }
        assert!(pauses.is_sorted_by(|one, next| one.mul_f64(1.7) < *next), "{pauses:?}");
        now = opens(&gate, now);
        open_wide(&mut gate, now);
        send(&mut gate, now, busy(0));
        assert!(pause(&gate, now) < FIRST_PAUSE * 2, "it was well, and begins anew");
    }
}

#[test]
fn an_api_that_takes_some_and_then_refuses_is_not_left_alone_for_longer_each_time() {
    for (successes, most) in [(3, 2), (7, 2), (8, 1), (30, 1)] {
        let mut gate = gate();
        let mut now = START;
        send(&mut gate, now, busy(0));
        for _ in 0..20 {
            now = opens(&gate, now);
            for _ in 0..successes {
                send(&mut gate, now, Health::Well);
            }
            assert!(send(&mut gate, now, busy(0)), "it closes");
            assert!(pause(&gate, now) < FIRST_PAUSE * most * 2, "{successes}: {:?}", pause(&gate, now));
        }
    }
}

#[test]
fn a_retry_after_only_ever_makes_a_pause_longer() {
    for (asked, least) in [(None, 2), (Some(0), 2), (Some(1), 2), (Some(60), 60), (Some(7 * 24 * 3_600), 3_600)] {
        let mut gate = gate();
        let retry_after = asked.map(Duration::from_secs);
        send(&mut gate, START, Health::Busy { reason: GateReason::Unavailable, retry_after });
        let least = Duration::from_secs(least);
        assert!((least..=least.mul_f64(1.0 + JITTER)).contains(&pause(&gate, START)), "{asked:?}");
    }
}

#[test]
fn what_left_before_it_closed_neither_opens_it_nor_makes_it_worse() {
    let mut gate = gate();
    let late: Vec<_> = (0..14).map(|_| leave(&mut gate, START)).collect();
    send(&mut gate, START, busy(10));
    let first = gate.state();
    let mut late = late.into_iter();
    let mut end = |gate: &mut Gate, health, now| gate.report(late.next().expect("one more"), health, now, &mut rng());
    for health in [Health::Well, Health::Failing, Health::Failing, Health::Failing, busy(1), Health::Unauthorized] {
        assert!(!end(&mut gate, health, START), "{health:?}");
    }
    assert_eq!(gate.state(), first);
    assert!(end(&mut gate, busy(60), START), "it asked for longer");
    assert!(pause(&gate, START) >= Duration::from_secs(60) && gate.state().closings == 1);

    let now = opens(&gate, START);
    send(&mut gate, now, Health::Well);
    let opening = gate.state();
    for health in [Health::Failing, Health::Unauthorized, busy(0), Health::Well] {
        assert!(!end(&mut gate, health, now), "{health:?}");
    }
    assert_eq!((gate.state(), gate.allowance()), (opening, Some(1 + 3)), "three are still out, and in nobody's way");
    assert!(end(&mut gate, busy(30), now) && pause(&gate, now) >= Duration::from_secs(30));
    assert_eq!(gate.state().closings, 1, "no closing of its own");
}

#[test]
fn another_process_opens_it_closes_it_and_is_not_believed_beyond_what_can_be() {
    let mut gate = gate();
    let closed = |after| GateState {
        closed: Some(Closed { until: WALL.after(after), reason: GateReason::RateLimited }),
        closings: 3,
        risked: 0,
    };
    let second = Duration::from_secs(1);
    for (wait, left) in [(second * 30, second * 30), (HOUR * 100, HOUR.mul_f64(1.0 + JITTER)), (second, second)] {
        gate.adopt(closed(wait), START);
        assert_eq!(pause(&gate, START), left, "{wait:?}");
    }
    gate.adopt(GateState { closings: 3, ..GateState::default() }, START);
    assert_eq!((gate.is_open(), gate.allowance()), (true, Some(1)));
    gate.adopt(GateState::default(), START);
    assert_eq!(gate.allowance(), None);
    let kept = Gate::new(GateState { closings: 2, ..GateState::default() }, 3, HOUR, START);
    assert_eq!(kept.allowance(), Some(1), "a restart does not make it well");
}

#[test]
fn a_row_is_its_own_fault_where_others_left_after_it_was_refused_and_were_not() {
    let second = Duration::from_secs(1);
    let mut gate = gate();
    let refused = leave(&mut gate, START);
    let slow = leave(&mut gate, START);
    gate.report(refused, Health::Unauthorized, START, &mut rng());
    let now = after(START, second * 2);
    // One that left before says nothing of what holds since.
    gate.report(slow, Health::Well, now, &mut rng());
    let again = leave(&mut gate, after(now, second * 2));
    assert!(!gate.takes_others(again));
    gate.report(again, Health::Unauthorized, after(now, second * 2), &mut rng());
    let later = after(now, second * 10);
    send(&mut gate, later, Health::Well);
    let much_later = after(later, second * 100);
    let again = leave(&mut gate, much_later);
    assert!(gate.takes_others(again), "however long that was ago");
    gate.report(again, Health::Unauthorized, much_later, &mut rng());
    let again = leave(&mut gate, after(much_later, second));
    assert!(!gate.takes_others(again), "it may be dead since");
    let closed = after(much_later, second * 2);
    for _ in 0..4 {
        send(&mut gate, closed, Health::Unauthorized);
    }
    assert!(!gate.is_open() && !gate.takes_others(again));
}

#[test]
fn of_requests_that_are_never_sent_twice_five_are_probes_of_one_closing() {
    let mut gate = gate();
    let mut now = START;
    send(&mut gate, now, busy(0));
    for _ in 0..RISKY_PROBES {
        now = opens(&gate, now);
        assert!(gate.may_risk());
        // One that does not leave after all is none.
        let mut unsent = leave(&mut gate, now);
        gate.risk(&mut unsent);
        assert!(gate.not_sent(unsent), "that is to be kept");
        let mut probe = leave(&mut gate, now);
        gate.risk(&mut probe);
        gate.report(probe, Health::Failing, now, &mut rng());
    }
    assert!(!gate.may_risk());
    assert!(!Gate::new(gate.state(), 3, HOUR, now).may_risk(), "nor after a restart");
    now = opens(&gate, now);
    assert!(send(&mut gate, now, Health::Well) && gate.may_risk(), "somebody else's probe opened it");
}

/// Calls for an hour as fast as the gate lets it, and notes when; each answer is there at once.
fn hour_of_calls(gate: &mut Gate, answer: impl Fn(usize) -> Health) -> Vec<i64> {
    let (mut now, mut left) = (START, Vec::new());
    while now.steady < later(START.steady, HOUR) {
        match gate.passage(now) {
            Ok(_) => {
                send(gate, now, answer(left.len()));
                left.push(now.steady);
                now = after(now, Duration::from_millis(10));
            }
            Err(_) => now = opens(gate, now),
        }
    }
    left
}

fn most_in_a_minute(calls: &[i64]) -> usize {
    let in_minute = |from: &i64| calls.iter().filter(|at| (*from..from + 60 * SECOND).contains(*at)).count();
    calls.iter().map(in_minute).max().unwrap_or(0)
}

#[test]
fn an_api_that_refuses_everything_costs_a_handful_of_calls_a_minute_whatever_it_asks_for() {
    let silent = Health::Busy { reason: GateReason::RateLimited, retry_after: None };
    for health in [busy(0), silent, Health::Failing] {
        let calls = hour_of_calls(&mut gate(), |_| health);
        assert!(most_in_a_minute(&calls) <= 7, "{health:?}: {}", most_in_a_minute(&calls));
        assert!(calls.len() <= 40, "{health:?}: {} in an hour", calls.len());
    }
}

#[test]
fn an_api_that_takes_one_request_and_refuses_the_next_is_not_well() {
    let calls = hour_of_calls(&mut gate(), |call| if call % 2 == 1 { busy(0) } else { Health::Well });
    assert!(most_in_a_minute(&calls) <= 12 && calls.len() <= 80, "{} in an hour", calls.len());
}

#[derive(Debug, Clone)]
enum Deed {
    Leave,
    End(prop::sample::Index, Health),
    NotSent(prop::sample::Index),
    Pass(u64),
    SetWall(i64),
    Elsewhere(Option<i64>, u32),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let health = prop_oneof![
        4 => Just(Health::Well),
        2 => Just(Health::Failing),
        1 => Just(Health::Unauthorized),
        2 => (0..200_u64).prop_map(busy),
        1 => Just(busy(10_000)),
    ];
    let index = any::<prop::sample::Index>;
    let deed = prop_oneof![
        5 => Just(Deed::Leave),
        5 => (index(), health).prop_map(|(which, health)| Deed::End(which, health)),
        1 => index().prop_map(Deed::NotSent),
        3 => (0..200_000_u64).prop_map(Deed::Pass),
        1 => (-10_000_000_000..10_000_000_000_i64).prop_map(Deed::SetWall),
        1 => (prop::option::of(-10_000_000..10_000_000_i64), 0..9_u32).prop_map(|(until, closings)| Deed::Elsewhere(until, closings)),
    ];
    vec(deed, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn one_probe_at_most_never_too_many_while_opening_and_an_end_to_every_pause(deeds in deeds()) {
        let (mut gate, mut now, mut out, mut rng) = (gate(), START, Vec::<Passage>::new(), rng());
        for deed in deeds {
            match deed {
                Deed::Leave => {
                    let has_room = gate.allowance().is_none_or(|most| out.len() < most as usize);
                    if let (Ok(passage), true) = (gate.passage(now), has_room) {
                        gate.pass(passage);
                        out.push(passage);
                    }
                }
                Deed::End(which, health) if !out.is_empty() => {
                    let passage = out.swap_remove(which.index(out.len()));
                    gate.report(passage, health, now, &mut rng);
                }
                Deed::NotSent(which) if !out.is_empty() => drop(gate.not_sent(out.swap_remove(which.index(out.len())))),
                Deed::Pass(millis) => now = after(now, Duration::from_millis(millis)),
                Deed::SetWall(by) => now.wall = Timestamp(WALL.0 + by),
                Deed::Elsewhere(until, closings) => {
                    let closed = until.map(|by| Closed { until: Timestamp(now.wall.0 + by), reason: GateReason::Failing });
                    gate.adopt(GateState { closed, closings, risked: 0 }, now);
                }
                Deed::End(..) | Deed::NotSent(_) => {}
            }
            prop_assert!(out.iter().filter(|passage| passage.is_probe()).count() <= 1);
            prop_assert_eq!(gate.late + gate.under_way, out.len() as u32);
            prop_assert!(gate.left(now) <= gate.longest());
            prop_assert!(gate.closed(now).is_none_or(|closed| closed.until >= now.wall), "a past time is shown");
        }
        // Whatever happened: once the API is well it is open within the longest pause, and needs nobody's help.
        for passage in out {
            gate.report(passage, Health::Well, now, &mut rng);
        }
        now = after(now, gate.longest());
        open_wide(&mut gate, now);
        prop_assert!(gate.is_open() && gate.allowance().is_none());
    }
}
