//! Against vendors in virtual time, behind the gate as it is and a line that is as fast as it may be.

use std::{collections::VecDeque, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    downstream::gate::{Gate, GateReason, GateState, Health, Now, Passage, Shut},
    model::Timestamp,
};

const MS: i64 = 1_000_000;

/// Whether a vendor takes a request that comes at this time.
type Vendor = Box<dyn FnMut(i64) -> bool>;

/// What a vendor saw in a second.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    good: u32,
    refused: u32,
}

/// So many in each `window` of the clock.
fn windows(hidden: impl Fn(i64) -> u32 + 'static, window: i64) -> Vendor {
    let mut counted = (0, 0);
    Box::new(move |at| {
        if at / window != counted.0 {
            counted = (at / window, 0);
        }
        counted.1 += 1;
        counted.1 <= hidden(at / SECOND)
    })
}

/// No more than so many in any second.
fn sliding(hidden: usize) -> Vendor {
    let mut taken = VecDeque::new();
    Box::new(move |at| {
        while taken.front().is_some_and(|first| at - first >= SECOND) {
            taken.pop_front();
        }
        let is_taken = taken.len() < hidden;
        if is_taken {
            taken.push_back(at);
        }
        is_taken
    })
}

/// A bucket of `size` that fills with `hidden` a second.
fn bucket(hidden: f64, size: f64) -> Vendor {
    let (mut level, mut filled_at) = (size, 0);
    Box::new(move |at| {
        level = (level + hidden * (at - filled_at) as f64 / SECOND as f64).min(size);
        filled_at = at;
        let is_taken = level >= 1.0;
        level -= if is_taken { 1.0 } else { 0.0 };
        is_taken
    })
}

/// Refuses this share of all calls at random, whatever their rate, beside what `vendor` refuses.
fn at_random(share: f64, seed: u64, mut vendor: Vendor) -> Vendor {
    let mut rng = StdRng::seed_from_u64(seed);
    Box::new(move |at| !rng.random_bool(share) && vendor(at))
}

/// Calls a vendor who answers after `latency_ms` for so many seconds, and says nothing of when to come back.
fn call(vendor: Vendor, configured: f64, latency_ms: i64, seconds: usize) -> Vec<Second> {
    call_by(Adapt::new(true), vendor, configured, latency_ms, None, seconds)
}

fn call_by(
    mut adapt: Adapt,
    mut vendor: Vendor,
    configured: f64,
    latency_ms: i64,
    retry_after: Option<Duration>,
    seconds: usize,
) -> Vec<Second> {
    let mut rng = StdRng::seed_from_u64(5);
    let now_at = |steady: i64| Now { steady, wall: Timestamp(steady / MS) };
    let mut gate = Gate::new(GateState::default(), 5, Duration::from_secs(3_600), now_at(0));
    let mut told = vec![Second::default(); seconds + 1];
    let mut out: VecDeque<(i64, Passage, Health)> = VecDeque::new();
    let (mut at, mut slot) = (0, 0);
    while at < seconds as i64 * SECOND {
        while out.front().is_some_and(|(ends, ..)| *ends <= at) {
            let Some((ends, passage, health)) = out.pop_front() else { break };
            match (health, gate.is_late(passage)) {
                (Health::Well, false) => adapt.on_success(configured),
                (Health::Well, true) => adapt.on_late_success(),
                (_, true) => {}
                (_, false) => adapt.on_busy(configured, ends),
            }
            gate.report(passage, health, now_at(ends), &mut rng);
        }
        let next_end = out.front().map_or(i64::MAX, |(ends, ..)| *ends);
        let has_room = gate.allowance().is_none_or(|most| out.len() < most as usize);
        match gate.passage(now_at(at)) {
            Ok(passage) if has_room && slot <= at => {
                gate.pass(passage);
                let second = &mut told[(at / SECOND) as usize];
                let busy = Health::Busy { reason: GateReason::RateLimited, retry_after };
                let is_good = vendor(at);
                *if is_good { &mut second.good } else { &mut second.refused } += 1;
                out.push_back((at + latency_ms * MS, passage, if is_good { Health::Well } else { busy }));
                slot = slot.max(at) + (SECOND as f64 / adapt.rate(configured)) as i64;
            }
            Ok(_) if has_room => at = slot.min(next_end),
            Err(Shut::Closed(..)) => at = gate.opens_at().unwrap_or(at).min(next_end),
            _ => at = next_end,
        }
    }
    told
}

fn sum(seconds: &[Second]) -> (f64, f64) {
    let sum = |what: fn(&Second) -> u32| f64::from(seconds.iter().map(what).sum::<u32>());
    (sum(|second| second.good), sum(|second| second.refused))
}

#[test]
fn a_hidden_limit_is_found_in_half_a_minute_used_and_hardly_ever_run_into() {
    for (hidden, configured) in [(30.0, 50.0), (10.0, 50.0), (45.0, 50.0), (20.0, 1_000.0)] {
        for latency_ms in [20, 300] {
            for (name, vendor) in [
                ("seconds of the clock", windows(move |_| hidden as u32, SECOND)),
                ("any second", sliding(hidden as usize)),
                ("a small bucket", bucket(hidden, hidden / 10.0)),
                ("a bucket", bucket(hidden, hidden)),
            ] {
                let seconds = call(vendor, configured, latency_ms, 660);
                let what = format!("{hidden} of {configured} in {name}, {latency_ms} ms");
                let (found, _) = sum(&seconds[30..60]);
                assert!(found >= 0.5 * hidden * 30.0, "{what}: {found} between 30 s and a minute");
                let (good, refused) = sum(&seconds[60..660]);
                let (used, refused_a_minute) = (good / (hidden * 600.0), refused / 10.0);
                assert!(used >= 0.9, "{what}: {used} of what there is");
                assert!(refused_a_minute <= 6.0, "{what}: {refused_a_minute} refused a minute");
            }
        }
    }
}

#[test]
fn windows_of_a_minute_are_used_up_and_what_is_refused_in_them_is_little() {
    for latency_ms in [20, 300] {
        let seconds = call(windows(|_| 600, 60 * SECOND), 50.0, latency_ms, 660);
        let (good, refused) = sum(&seconds[60..660]);
        assert!(good >= 0.95 * 6_000.0 && refused <= 0.03 * good, "{latency_ms} ms: {good}, {refused} refused");
    }
}

#[test]
fn it_comes_back_to_the_configured_rate_within_three_minutes_and_never_beyond() {
    for (hidden, latency_ms) in [(10, 20), (10, 300), (30, 20), (45, 300)] {
        let limited = move |second| if second < 120 { hidden } else { 1_000 };
        let seconds = call(windows(limited, SECOND), 50.0, latency_ms, 361);
        let (good, refused) = sum(&seconds[300..360]);
        let what = format!("{hidden} at {latency_ms} ms");
        assert!(refused == 0.0 && (2_940.0..=3_001.0).contains(&good), "{what}: {good} in a minute of 50 a second");
        assert!(seconds.iter().all(|second| second.good + second.refused <= 51), "{what}");
    }
}

#[test]
fn a_crowd_of_refusals_is_one_decrease_and_there_is_a_floor() {
    let mut adapt = Adapt::new(true);
    (0..100).for_each(|refusal| adapt.on_busy(100.0, refusal * MS));
    assert_eq!(adapt.rate(100.0), 85.0);
    (1..100).for_each(|second| adapt.on_busy(100.0, second * SECOND));
    assert_eq!(adapt.rate(100.0), 85.0, "nothing has come through in between, so nothing is learned");
    for second in 100..1_000 {
        adapt.on_success(100.0);
        adapt.on_busy(100.0, second * SECOND);
    }
    assert_eq!(adapt.rate(100.0), 0.2);
    let slow = Adapt { share: 0.0, ..Adapt::new(true) };
    assert_eq!([0.1, 5.0, 1_000.0].map(|configured| slow.rate(configured)), [0.1, 0.2, 2.0]);
}

#[test]
fn what_was_hardly_called_grows_no_faster_than_it_is_called() {
    let mut adapt = Adapt { share: 0.1, ..Adapt::new(true) };
    (0..10).for_each(|_| adapt.on_success(50.0));
    assert!(adapt.rate(50.0) < 6.5, "ten good answers are no reason to go at {}", adapt.rate(50.0));
}

#[test]
fn switched_off_it_is_as_configured() {
    let mut adapt = Adapt::new(false);
    for second in 0..100 {
        adapt.on_busy(50.0, second * SECOND);
        adapt.on_success(50.0);
    }
    assert_eq!(adapt.rate(50.0), 50.0);
}

#[test]
fn of_a_limit_a_little_lower_or_half_as_high_nearly_all_is_used() {
    for hidden in [45, 25] {
        for (name, vendor) in
            [("seconds of the clock", windows(move |_| hidden, SECOND)), ("any second", sliding(hidden as usize))]
        {
            let (good, refused) = sum(&call(vendor, 50.0, 20, 660)[60..660]);
            let used = good / f64::from(hidden * 600);
            assert!(used >= 0.95 && refused <= 20.0, "{hidden} in {name}: {used}, {refused} refused in ten minutes");
        }
    }
}

/// How many good answers of such a vendor come in ten minutes, of as many as come at the full rate behind the same gate.
fn kept_of(noise: f64, configured: f64, latency_ms: i64, seed: u64) -> f64 {
    let good = |adapt| {
        let vendor = at_random(noise, seed, Box::new(|_| true));
        let after_a_second = Some(Duration::from_secs(1));
        sum(&call_by(adapt, vendor, configured, latency_ms, after_a_second, 660)[60..660]).0
    };
    good(Adapt::new(true)) / good(Adapt::new(false))
}

#[test]
fn refusals_at_random_cost_their_pauses_and_little_more() {
    const SEEDS: u64 = 16;
    for noise in [0.03, 0.1] {
        for configured in [5.0, 50.0, 500.0] {
            for latency_ms in [20, 300] {
                let kept: Vec<_> = (0..SEEDS).map(|seed| kept_of(noise, configured, latency_ms, seed)).collect();
                let mean = kept.iter().sum::<f64>() / SEEDS as f64;
                let poor = kept.iter().filter(|kept| **kept < 0.5).count();
                let what = format!("{noise} of {configured} a second, {latency_ms} ms");
                assert!(mean >= 0.8 && poor <= 3, "{what}: {mean} of what the pauses leave; {kept:?}");
            }
        }
    }
}

#[test]
fn a_limit_that_comes_after_refusals_at_random_is_found_as_well() {
    let mut limited = sliding(10);
    let vendor = at_random(0.03, 1, Box::new(move |at| at < 200 * SECOND || limited(at)));
    let seconds = call(vendor, 50.0, 20, 660);
    let (good, refused) = sum(&seconds[360..660]);
    assert!(good >= 0.4 * 3_000.0 && refused <= 250.0, "{good} good, {refused} refused in five minutes");
}

#[test]
fn an_api_that_refuses_everything_is_asked_now_and_then_whatever_it_says() {
    for retry_after in [None, Some(Duration::ZERO), Some(Duration::from_secs(1))] {
        let seconds = call_by(Adapt::new(true), Box::new(|_| false), 50.0, 20, retry_after, 660);
        let (_, refused) = sum(&seconds[1..]);
        assert!(refused <= 12.0, "{retry_after:?}: {refused} calls in eleven minutes");
    }
}
