//! Never flooded: an API that says "too many" or "not now" is left alone, whatever it says of when to come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    support::{
        app::App,
        server::{Reply, Server, late, status},
    },
    zoo::{add_client, api, app, between, created, ended, first_call, pass, people, upload, with},
};

const ROWS: usize = 200;
const FAST: &str = "rate_per_second = 100\nburst = 10\ntimeout = \"5s\"\nmax_retry_after = \"4s\"\nconcurrency = 16\ngate_after = 100000";
/// For so long it turns everybody away.
const TURNED_AWAY: Duration = Duration::from_secs(9);
/// From the second second on no more than these: the pauses grow.
const A_HANDFUL: usize = 7;
/// How long an answer takes once the vendor is well again, so that calls at once can be told from calls in turn.
const LATENCY: Duration = Duration::from_millis(300);
/// Into a gate that has just opened no more than these leave before one of them succeeds.
const A_FEW: usize = 8;
/// The growing pause that stands at the end of [`TURNED_AWAY`] is no longer than this, nor is a `Retry-After`.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// What the vendor says about when to come back.
type Lie = (&'static str, u16, fn() -> Reply);

fn http_date(seconds_ago: u64) -> String {
    httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(seconds_ago))
}

const LIES: [Lie; 10] = [
    ("none", 429, || status(429)),
    ("zero", 429, || with(429, "Retry-After", "0")),
    ("past", 429, || with(429, "Retry-After", http_date(5))),
    ("now", 429, || with(429, "Retry-After", http_date(0))),
    ("huge", 429, || with(429, "Retry-After", "99999999999999999999")),
    ("words", 429, || with(429, "Retry-After", "soon, -1")),
    ("away", 503, || status(503)),
    ("away-zero", 503, || with(503, "Retry-After", "0")),
    ("forbidden", 403, || with(403, "Retry-After", "0")),
    ("away-past", 503, || with(503, "Retry-After", http_date(3600))),
];

struct Vendor {
    server: Server,
    well: Arc<AtomicBool>,
}

fn vendor(lie: fn() -> Reply) -> Vendor {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = well.clone();
    let server = Server::start(move |request| match is_well.load(SeqCst) {
        true => late(LATENCY, created(request)),
        false => lie(),
    });
    Vendor { server, well }
}

#[test]
fn an_api_that_turns_everybody_away_is_left_alone_and_comes_back_a_few_at_a_time() {
    let vendors = LIES.map(|(_, _, lie)| vendor(lie));
    let apis: Vec<_> =
        LIES.iter().zip(&vendors).map(|((name, ..), vendor)| api(name, &vendor.server, FAST, "", "")).collect();
    let app = app(&apis);
    let faults: Vec<String> = thread::scope(|scope| {
        let cases = LIES.iter().zip(&vendors);
        let running: Vec<_> = cases.map(|(lie, vendor)| scope.spawn(|| turned_away(&app, lie.0, vendor))).collect();
        running.into_iter().filter_map(|case| case.join().expect("no panic")).collect()
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What is wrong with how a vendor was treated, if anything is.
fn turned_away(app: &App, name: &str, vendor: &Vendor) -> Option<String> {
    let key = add_client(app, name);
    let id = upload(app, &key, name, &people(&format!("{name}.example"), ROWS));
    let first = first_call(app, &vendor.server);
    pass(TURNED_AWAY);
    let healed = Instant::now();
    vendor.well.store(true, SeqCst);
    let calls = between(&vendor.server, first + Duration::from_secs(1), healed);
    if calls > A_HANDFUL {
        return Some(format!("{name}: {calls} calls after the first second"));
    }
    let batch = app.batch_of(&key, &id);
    if batch["counts"]["failed"] != 0 {
        return Some(format!("{name}: rows failed for it: {batch}"));
    }
    let back = app.until("it is called again", || {
        vendor.server.received().iter().map(|request| request.at).find(|at| *at >= healed)
    });
    if back - healed > LONGEST_PAUSE {
        return Some(format!("{name}: back after {:?}", back - healed));
    }
    let done = ended(app, &key, &id);
    // The probe's answer opens the gate; until the next answer nothing has succeeded in the open.
    let opened = back + LATENCY;
    let at_once = between(&vendor.server, opened, opened + LATENCY - Duration::from_millis(20));
    let is_done = done["counts"]["completed"] == ROWS;
    (at_once > A_FEW || !is_done)
        .then(|| format!("{name}: {at_once} calls before one succeeded, and in the end {}", done["counts"]))
}

/// What a vendor took, and when it turned somebody away.
#[derive(Default)]
struct Counted {
    taken: std::collections::VecDeque<Instant>,
    refused: Vec<Instant>,
}

/// Takes a fifth of what it is called at, and says nothing of it but 429.
#[test]
fn a_rate_that_the_vendor_does_not_grant_is_found_and_kept_to() {
    const GRANTED: usize = 10;
    const LATENCY: Duration = Duration::from_millis(40);
    let counted = Arc::new(std::sync::Mutex::new(Counted::default()));
    let counting = counted.clone();
    let server = Server::start(move |request| {
        let now = Instant::now();
        let mut counted = counting.lock().expect("not poisoned");
        while counted.taken.front().is_some_and(|at| now - *at >= Duration::from_secs(1)) {
            counted.taken.pop_front();
        }
        if counted.taken.len() >= GRANTED {
            counted.refused.push(now);
            return late(LATENCY, status(429));
        }
        counted.taken.push_back(now);
        late(LATENCY, created(request))
    });
    let app = app(&[api("slow", &server, "rate_per_second = 50\nburst = 5\ntimeout = \"5s\"", "", "")]);
    let id = upload(&app, &app.key, "slow", &people("slow.example", 1_000));
    let first = first_call(&app, &server);
    let (found, watched) = (Duration::from_secs(35), Duration::from_secs(20));
    pass(found + watched);
    let (from, to) = (first + found, first + found + watched);
    let refused = counted.lock().expect("not poisoned").refused.iter().filter(|at| (from..to).contains(*at)).count();
    let taken = between(&server, from, to) - refused;
    let granted = GRANTED * watched.as_secs() as usize;
    assert!(taken * 100 >= granted * 70, "{taken} of {granted}, with one pause at most");
    assert!(refused <= 3, "{refused} turned away in {watched:?}");
    let batch = app.batch_of(&app.key, &id);
    assert_eq!(batch["counts"]["failed"], 0, "{batch}");
}

/// How a vendor tells how much is left, and for how many seconds.
type Tells = fn(usize, f64) -> (&'static str, String, &'static str, String);

/// Grants so many in each window of the clock, and tells with each answer what is left.
#[test]
fn a_quota_that_answers_tell_of_is_kept_to_without_a_refusal() {
    const GRANTED: usize = 20;
    const WINDOW: f64 = 2.0;
    const QUOTA_ROWS: usize = 100;
    let vendors: [(&str, Tells); 3] = [
        ("draft", |left, wait| {
            (
                "RateLimit",
                format!("\"default\";r={left};t={}", wait.ceil()),
                "RateLimit-Policy",
                "\"default\";q=20;w=2".to_owned(),
            )
        }),
        ("older", |left, wait| ("RateLimit-Remaining", left.to_string(), "RateLimit-Reset", wait.ceil().to_string())),
        ("epoch", |left, wait| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64();
            ("X-RateLimit-Remaining", left.to_string(), "X-RateLimit-Reset", (now + wait).ceil().to_string())
        }),
    ];
    let servers = vendors.map(|(_, tells)| {
        let (begun, windows) = (Instant::now(), std::sync::Mutex::new((0, 0)));
        Server::start(move |request| {
            let mut counted = windows.lock().expect("not poisoned");
            let passed = begun.elapsed().as_secs_f64();
            let window = (passed / WINDOW) as u64;
            if window != counted.0 {
                *counted = (window, 0);
            }
            counted.1 += 1;
            let (left, wait) = (GRANTED.saturating_sub(counted.1), WINDOW - passed % WINDOW);
            let is_taken = counted.1 <= GRANTED;
            drop(counted);
            let (remaining, left, reset, wait) = tells(left, wait);
            let headers = vec![(remaining, left), (reset, wait)];
            match created(request) {
                Reply::Answer(status, mut more, body) if is_taken => {
                    more.extend(headers);
                    late(Duration::from_millis(30), Reply::Answer(status, more, body))
                }
                _ => Reply::Answer(429, headers, String::new()),
            }
        })
    });
    let keys = "rate_per_second = 60\nburst = 1\ntimeout = \"5s\"";
    let apis: Vec<_> =
        vendors.iter().zip(&servers).map(|((name, _), server)| api(name, server, keys, "", "")).collect();
    let app = app(&apis);
    let ids: Vec<_> = vendors
        .iter()
        .map(|(name, _)| upload(&app, &app.key, name, &people(&format!("{name}.example"), QUOTA_ROWS)))
        .collect();
    for ((id, server), (name, _)) in ids.iter().zip(&servers).zip(&vendors) {
        assert_eq!(ended(&app, &app.key, id)["counts"]["completed"], QUOTA_ROWS, "{name}");
        let refused = server.calls() - QUOTA_ROWS;
        // Requests may arrive in another order than they left.
        assert!(refused <= 1, "{name}: {refused} turned away");
    }
}
