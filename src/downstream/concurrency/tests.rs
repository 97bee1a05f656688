//! Against servers in virtual time: each begins with nothing known and has rows without end.

use std::{cmp::Reverse, collections::BinaryHeap};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;

/// What is not answered within this has no answer.
const TIMEOUT: i64 = 10 * SECOND;

/// A server: when it answers a request that comes now, with so many already there, in seconds.
type Server = Box<dyn FnMut(f64, usize) -> f64>;

/// What a second looked like.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    answers: u32,
    most_under_way: usize,
}

fn secs(seconds: f64) -> i64 {
    (seconds * SECOND as f64) as i64
}

/// Sends at most `rate` a second for so many seconds, as the limit allows.
fn run(concurrency: &mut Concurrency, rate: f64, length: usize, mut server: Server) -> Vec<Second> {
    let (mut seconds, mut under_way) = (vec![Second::default(); length], BinaryHeap::new());
    let (mut now, mut slot) = (0, 0);
    let end = secs(length as f64);
    concurrency.set_rate(rate);
    while now < end {
        while under_way.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((at, left))) = under_way.pop() else { break };
            if at - left <= TIMEOUT {
                concurrency.on_answer(at - left, at, under_way.len() as u32 + 1);
                seconds[(at / SECOND) as usize].answers += 1;
            } else {
                concurrency.on_failure(left, at);
            }
        }
        let has_place = under_way.len() < concurrency.limit() as usize;
        if has_place && slot <= now {
            concurrency.on_sent(now);
            let answered = server(now as f64 / SECOND as f64, under_way.len());
            under_way.push(Reverse((secs(answered).clamp(now + 1, now + TIMEOUT + 1), now)));
            slot = slot.max(now - SECOND / 100) + secs(1.0 / rate);
            let second = &mut seconds[(now / SECOND) as usize];
            second.most_under_way = second.most_under_way.max(under_way.len());
            continue;
        }
        let next_end = under_way.peek().map_or(i64::MAX, |Reverse((at, _))| *at);
        now = if has_place { slot.min(next_end) } else { next_end }.min(end);
    }
    seconds
}

fn auto(max: u32) -> Concurrency {
    Concurrency::new(Setting::Auto, max, 0.0)
}

fn per_second(seconds: &[Second]) -> f64 {
    seconds.iter().map(|second| f64::from(second.answers)).sum::<f64>() / seconds.len() as f64
}

fn most(seconds: &[Second]) -> usize {
    seconds.iter().map(|second| second.most_under_way).max().unwrap_or(0)
}

/// Always as slow.
fn fixed(latency: f64) -> Server {
    Box::new(move |now, _| now + latency)
}

/// As many at once as it can; the rest queue. What it can do in a second is about `workers / each`.
fn hard(workers: usize, each: f64) -> Server {
    let (mut free, mut rng) = (vec![0.0_f64; workers], StdRng::seed_from_u64(11));
    Box::new(move |now, _| {
        let first = free.iter_mut().min_by(|a, b| a.total_cmp(b)).expect("a worker");
        *first = first.max(now) + each * rng.random_range(0.8..1.2);
        *first
    })
}

/// Exponential about a mean: as uneven as answers commonly are.
fn uneven(mean: f64) -> Server {
    let mut rng = StdRng::seed_from_u64(7);
    Box::new(move |now, _| now - mean * rng.random_range(f64::EPSILON..1.0).ln())
}

#[test]
fn a_number_is_the_limit_whatever_is_measured() {
    let mut fixed_limit = Concurrency::new(Setting::Fixed(7), 256, 1_000.0);
    assert_eq!(fixed_limit.limit(), 7);
    assert_eq!(most(&run(&mut fixed_limit, 1_000.0, 5, fixed(1.0))), 7);
}

#[test]
fn a_rate_is_used_up_whatever_the_latency() {
    for (rate, latency, max, from) in [
        (50.0, 0.02, 256, 1),
        (200.0, 0.3, 256, 3),
        (200.0, 1.0, 256, 4),
        (20.0, 3.0, 256, 8),
        (0.5, 1.0, 256, 10),
        (500.0, 10.0, 8_192, 22),
    ] {
        let mut concurrency = auto(max);
        let seconds = run(&mut concurrency, rate, from + 60, fixed(latency));
        let given = per_second(&seconds[from..]) / rate;
        assert!(given >= 0.95, "{rate}/s at {latency} s: {given}");
        let needed = (rate * latency * HEAD_ROOM + SPARE).max(COLD) as usize;
        assert!(most(&seconds) <= needed + 1, "{rate}/s at {latency} s: {} under way", most(&seconds));
    }
}

#[test]
fn answers_that_come_unevenly_hold_nothing_up() {
    let slow_now_and_then: Server = {
        let mut rng = StdRng::seed_from_u64(3);
        Box::new(move |now, _| now + if rng.random_bool(0.02) { 5.0 } else { 0.05 })
    };
    for (name, server) in [("exponential", uneven(0.5)), ("one in fifty is late", slow_now_and_then)] {
        let seconds = run(&mut auto(1_024), 200.0, 90, server);
        let given = per_second(&seconds[20..]) / 200.0;
        assert!(given >= 0.95, "{name}: {given}");
    }
}

#[test]
fn an_api_that_becomes_ten_times_slower_by_itself_is_followed_both_ways() {
    let server: Server = Box::new(|now, _| now + if (30.0..90.0).contains(&now) { 1.0 } else { 0.1 });
    let mut concurrency = auto(512);
    let seconds = run(&mut concurrency, 200.0, 180, server);
    for (from, to) in [(5, 30), (45, 90), (92, 180)] {
        let given = per_second(&seconds[from..to]) / 200.0;
        assert!(given >= 0.95, "{from} to {to}: {given}");
    }
    assert!(concurrency.limit() <= 40, "what is no longer needed is given back: {}", concurrency.limit());
}

#[test]
fn an_api_that_can_do_no_more_is_not_asked_for_ever_more() {
    for (workers, each, rate) in [(5, 0.1, 200.0), (1, 0.01, 1_000.0), (50, 1.0, 500.0), (2, 1.0, 50.0)] {
        let can = workers as f64 / each;
        let mut concurrency = auto(8_192);
        let seconds = run(&mut concurrency, rate, 300, hard(workers, each));
        let (given, late) = (per_second(&seconds[60..]) / can, most(&seconds[200..]));
        assert!(given >= 0.85, "{can}/s of {rate}/s: {given}");
        // Room for the rate with an idle API, and twice that for a trial.
        let own = rate * each * HEAD_ROOM + SPARE;
        assert!(most(&seconds) as f64 <= (own * FAST).max(COLD * FAST), "{can}/s: {} under way", most(&seconds));
        assert!(late as f64 <= (workers as f64 * 3.0).max(COLD), "{can}/s: {late} under way at last");
    }
}

#[test]
fn an_api_that_slows_down_behind_a_number_is_left_near_it() {
    // Up to 40 at once it takes 0.2 s; from there on as long as their number says: no more come through.
    let server: Server = Box::new(|now, others| now + 0.2 * (others as f64 / 40.0).max(1.0).powi(2));
    let mut concurrency = auto(4_096);
    let seconds = run(&mut concurrency, 1_000.0, 300, server);
    let given = per_second(&seconds[120..]);
    assert!(given >= 160.0, "of the 200 a second that it can do: {given}");
    assert!(most(&seconds[120..]) <= 80, "{} under way", most(&seconds[120..]));
}

#[test]
fn a_burst_of_quick_errors_is_got_over() {
    let server: Server = Box::new(|now, _| now + if (30.0..35.0).contains(&now) { 0.001 } else { 1.0 });
    let seconds = run(&mut auto(512), 200.0, 120, server);
    let given = per_second(&seconds[45..]) / 200.0;
    assert!(given >= 0.95, "{given}");
    assert!(most(&seconds) <= 512);
}

#[test]
fn silence_is_no_latency_and_asks_for_nothing() {
    let hangs_at_first: Server = Box::new(|now, _| now + if now < 60.0 { f64::MAX } else { 0.1 });
    let seconds = run(&mut auto(8_192), 500.0, 120, hangs_at_first);
    assert!(most(&seconds[..60]) <= COLD as usize, "{} under way before the first answer", most(&seconds[..60]));
    assert!(per_second(&seconds[80..]) >= 475.0, "and then {} a second", per_second(&seconds[80..]));

    let hangs_later: Server = Box::new(|now, _| now + if (30.0..90.0).contains(&now) { f64::MAX } else { 0.1 });
    let seconds = run(&mut auto(8_192), 200.0, 150, hangs_later);
    let own = (200.0 * 0.1 * HEAD_ROOM + SPARE) as usize;
    assert!(most(&seconds) <= own.max(COLD as usize), "{} under way", most(&seconds));
    assert!(per_second(&seconds[105..]) >= 190.0, "{} a second after it", per_second(&seconds[105..]));
}

#[test]
fn it_begins_small_and_doubles_with_each_answer_while_their_latency_asks_for_more() {
    let mut concurrency = Concurrency::new(Setting::Auto, 200, 500.0);
    assert_eq!(concurrency.limit(), COLD as u32);
    let limits = [1, 2, 3, 4, 5].map(|answer| {
        concurrency.on_answer(SECOND, answer * SECOND / 100, 16);
        concurrency.limit()
    });
    assert_eq!(limits, [32, 64, 128, 200, 200], "629 were asked for, and 200 are the most");
    let mut quick = Concurrency::new(Setting::Auto, 200, 500.0);
    quick.on_answer(SECOND / 100, 0, 16);
    assert_eq!(quick.limit(), 10);
}
