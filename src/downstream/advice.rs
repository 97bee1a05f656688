//! What an answer's headers say of how many more requests are granted, and until when: a quota.
//!
//! | header | where it comes from |
//! |---|---|
//! | `RateLimit: "default";r=0;t=30` with `RateLimit-Policy: "default";q=100;w=60` | IETF draft-ietf-httpapi-ratelimit-headers, from 08 on |
//! | `RateLimit: limit=100, remaining=0, reset=30` | the same, 07 |
//! | `RateLimit-Remaining: 0`, `RateLimit-Reset: 30` | the same, up to 06 |
//! | `X-RateLimit-Remaining: 0`, `X-RateLimit-Reset: 1786000000` (or `X-RateLimit-Reset-After`, `X-Rate-Limit-*`) | before it; some count seconds from now, some from 1970 |
//!
//! Where nothing remains no request leaves until then, without an attempt, a refusal or a closed gate. Nothing of this is
//! trusted far: what is no number says nothing, and no reset is waited for longer than [`LONGEST_HOLD`].

use std::{str::FromStr, time::Duration};

use hyper::http::{HeaderMap, header};

use crate::model::Timestamp;

/// The longest that no request leaves because a good answer said that nothing remains: a window of a minute. Of longer ones
/// the next request finds out, at the price of a refusal; a reset in the year 2100 costs no more either.
pub const LONGEST_HOLD: Duration = Duration::from_secs(60);
/// A number of seconds from here on is a time since 1970 (it is in 2001), and no wait of 31 years ...
const EPOCH_SECONDS: f64 = 1e9;
/// ... and from here on it counts milliseconds.
const EPOCH_MILLIS: f64 = 1e12;

/// How much is left of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    /// So many requests more are granted ...
    pub remaining: u64,
    /// ... for so long from now, at most [`LONGEST_HOLD`].
    pub resets_in: Duration,
}

impl Advice {
    /// What these headers say; of several quotas the one of which least remains. `now` is wall-clock time.
    pub fn of(headers: &HeaderMap, now: Timestamp) -> Option<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        // The reset is told by the server's clock, so it is its clock that it is measured by.
        let now = text(header::DATE.as_str()).and_then(http_date).unwrap_or(now);
        let told = |remaining: &str, resets: [&str; 2]| {
            let reset = resets.into_iter().find_map(text)?;
            Self::new(text(remaining)?, reset, now)
        };
        let windows = headers.get_all("ratelimit-policy").iter().filter_map(|value| value.to_str().ok());
        let windows: Vec<_> = windows.flat_map(items).collect();
        let drafts = headers.get_all("ratelimit").iter().filter_map(|value| value.to_str().ok());
        let drafts = drafts.filter_map(|value| Self::of_draft(value, &windows, now));
        let older = [
            told("ratelimit-remaining", ["ratelimit-reset", "ratelimit-reset-after"]),
            told("x-ratelimit-remaining", ["x-ratelimit-reset-after", "x-ratelimit-reset"]),
            told("x-rate-limit-remaining", ["x-rate-limit-reset-after", "x-rate-limit-reset"]),
        ];
        drafts.chain(older.into_iter().flatten()).min_by_key(|advice| advice.remaining)
    }

    /// How long nothing is to be sent; zero where something remains.
    pub fn hold(self) -> Duration {
        if self.remaining == 0 { self.resets_in } else { Duration::ZERO }
    }

    fn new(remaining: &str, reset: &str, now: Timestamp) -> Option<Self> {
        Some(Self { remaining: number(remaining)? as u64, resets_in: wait(reset, now)?.min(LONGEST_HOLD) })
    }

    /// One header `RateLimit`, in either form.
    fn of_draft(value: &str, windows: &[Item<'_>], now: Timestamp) -> Option<Self> {
        let items = items(value);
        let named = |name: &str| items.iter().find(|item| item.name == name).and_then(|item| item.value);
        if let (Some(remaining), Some(reset)) = (named("remaining"), named("reset")) {
            return Self::new(remaining, reset, now);
        }
        let of_item = |item: &Item<'_>| {
            let window = || windows.iter().find(|policy| policy.name == item.name).and_then(|policy| policy.get("w"));
            Self::new(item.get("r")?, item.get("t").or_else(window)?, now)
        };
        items.iter().filter_map(of_item).min_by_key(|advice| advice.remaining)
    }
}

/// A member of a structured field (RFC 9651): `name`, `name=value` or `"name";key=value`.
struct Item<'a> {
    name: &'a str,
    value: Option<&'a str>,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Item<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }
}

fn items(value: &str) -> Vec<Item<'_>> {
    let item = |text| {
        let mut parts = split(text, ';').into_iter().map(str::trim);
        let first = parts.next().unwrap_or_default();
        let (name, value) = first.split_once('=').map_or((first, None), |(name, value)| (name.trim(), Some(value)));
        let parameters = parts.filter_map(|part| part.split_once('=')).map(|(key, value)| (key.trim(), value));
        Item { name: name.trim_matches('"'), value, parameters: parameters.collect() }
    };
    split(value, ',').into_iter().map(item).collect()
}

/// Between separators that are not quoted.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut is_quoted = false;
    let at = |c: char| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    };
    text.split(at).collect()
}

/// A number of something, zero or more.
fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

/// How long until a reset: seconds from now, seconds or milliseconds since 1970, or a date. One that has passed is no wait.
fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let millis = match number(text) {
        Some(seconds) if seconds < EPOCH_SECONDS => return Some(Duration::from_secs_f64(seconds)),
        Some(seconds) if seconds < EPOCH_MILLIS => seconds * 1_000.0,
        Some(millis) => millis,
        None => return http_date(text).or_else(|| Timestamp::from_str(text).ok()).map(|at| at.since(now)),
    };
    Some(Timestamp(millis as i64).since(now))
}

fn http_date(text: &str) -> Option<Timestamp> {
    let since_1970 = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since_1970.as_millis()).ok().map(Timestamp)
}

/// What is left of a dependency's quota, as far as answers have told.
#[derive(Debug, Default)]
pub struct Quota {
    told: Option<Told>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    /// So many more may leave ...
    left: u64,
    /// ... until this steady time.
    until: i64,
    /// By the answer to this request, in the order in which they left.
    number: u64,
}

impl Quota {
    /// The answer to a request said so; `number` is its place in the order in which requests left, and `last` that of the
    /// last one that has. Those behind it are taken to have come behind it, so they are not counted in what it says.
    pub fn on_advice(&mut self, advice: Advice, number: u64, last: u64, now: i64) {
        if self.told(now).is_some_and(|told| told.number > number) {
            return;
        }
        let left = advice.remaining.saturating_sub(last.saturating_sub(number));
        let resets_in = i64::try_from(advice.resets_in.as_nanos()).unwrap_or(i64::MAX);
        self.told = Some(Told { left, until: now.saturating_add(resets_in), number });
    }

    /// A request leaves.
    pub fn on_sent(&mut self) {
        if let Some(told) = &mut self.told {
            told.left = told.left.saturating_sub(1);
        }
    }

    /// How many may leave before `horizon`, which is not before `now`.
    pub fn left(&self, now: i64, horizon: i64) -> usize {
        let told = self.told(now).filter(|told| told.until > horizon);
        told.map_or(usize::MAX, |told| usize::try_from(told.left).unwrap_or(usize::MAX))
    }

    /// The steady time until which nothing may leave.
    pub fn held_until(&self, now: i64) -> Option<i64> {
        self.told(now).filter(|told| told.left == 0).map(|told| told.until)
    }

    fn told(&self, now: i64) -> Option<Told> {
        self.told.filter(|told| told.until > now)
    }
}

#[cfg(test)]
mod tests {
    use hyper::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_786_000_000_000);
    const SECOND: i64 = 1_000_000_000;

    fn of(headers: &[(&'static str, &str)]) -> Option<(u64, f64)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).expect("a header"));
        }
        Advice::of(&map, NOW).map(|advice| (advice.remaining, advice.resets_in.as_secs_f64()))
    }

    #[test]
    fn every_form_is_understood() {
        for (headers, told) in [
            (&[("ratelimit", "\"default\";r=0;t=30")][..], (0, 30.0)),
            (&[("ratelimit", "default;r=7;t=5")], (7, 5.0)),
            (&[("ratelimit", "\"a, b;c\";r=50;t=1, \"day\";r=3;t=20")], (3, 20.0)),
            (&[("ratelimit", "\"a\";r=9;t=1"), ("ratelimit", "\"b\";r=2;t=2")], (2, 2.0)),
            (&[("ratelimit", "\"a\";r=0"), ("ratelimit-policy", "\"b\";q=9;w=50, \"a\";q=100;w=10")], (0, 10.0)),
            (&[("ratelimit", "limit=100, remaining=0, reset=30")], (0, 30.0)),
            (&[("ratelimit-remaining", "4"), ("ratelimit-reset", "12")], (4, 12.0)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "12")], (0, 12.0)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1786000012")], (0, 12.0)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1786000012500")], (0, 12.5)),
            (
                &[
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", "1786000000"),
                    ("x-ratelimit-reset-after", "0.5"),
                ],
                (0, 0.5),
            ),
            (&[("x-rate-limit-remaining", "1"), ("x-rate-limit-reset", "2026-08-06T07:06:45Z")], (1, 5.0)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "5"), ("ratelimit", "\"x\";r=8;t=9")], (0, 5.0)),
        ] {
            assert_eq!(of(headers), Some(told), "{headers:?}");
        }
    }

    #[test]
    fn a_reset_is_measured_by_the_clock_of_who_told_it() {
        let an_hour_behind = ("date", "Thu, 06 Aug 2026 06:06:40 GMT");
        let told = of(&[an_hour_behind, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1785996410")]);
        assert_eq!(told, Some((0, 10.0)));
    }

    #[test]
    fn what_lies_says_nothing_or_holds_for_a_minute_at_most() {
        let most = LONGEST_HOLD.as_secs_f64();
        for (remaining, reset, told) in [
            ("0", "4102444800", Some((0, most))),
            ("0", "4102444800000", Some((0, most))),
            ("0", "999999999", Some((0, most))),
            ("0", "1e308", Some((0, most))),
            ("0", "2100-01-01T00:00:00Z", Some((0, most))),
            ("0", "1000000000", Some((0, 0.0))),
            ("1e300", "5", Some((u64::MAX, 5.0))),
            ("-1", "30", None),
            ("NaN", "30", None),
            ("0", "NaN", None),
            ("0", "inf", None),
            ("0", "-30", None),
            ("0", "1e400", None),
            ("0", "soon", None),
            ("", "", None),
            ("none", "30", None),
        ] {
            let headers = [("x-ratelimit-remaining", remaining), ("x-ratelimit-reset", reset)];
            assert_eq!(of(&headers), told, "{headers:?}");
        }
        assert_eq!(of(&[("x-ratelimit-remaining", "0")]), None, "nobody knows until when");
    }

    #[test]
    fn what_left_behind_an_answered_request_is_taken_off_what_it_says() {
        let mut quota = Quota::default();
        let told = |remaining| Advice { remaining, resets_in: Duration::from_secs(10) };
        quota.on_advice(told(5), 3, 6, 0);
        assert_eq!((quota.left(0, SECOND), quota.held_until(0)), (2, None));
        (0..2).for_each(|_| quota.on_sent());
        assert_eq!((quota.left(1, SECOND), quota.held_until(1)), (0, Some(10 * SECOND)));
        quota.on_advice(told(9), 2, 8, 2);
        assert_eq!(quota.left(2, SECOND), 0, "an older answer than the one that is known");
        quota.on_advice(told(3), 7, 8, 3);
        assert_eq!(quota.left(3, SECOND), 2);
        assert_eq!(quota.left(3, 11 * SECOND), usize::MAX, "it is over before that");
        assert_eq!((quota.left(10 * SECOND + 3, 10 * SECOND + 3), quota.held_until(11 * SECOND)), (usize::MAX, None));
    }

    proptest! {
        #[test]
        fn no_headers_hold_for_longer_than_a_minute(
            names in proptest::sample::subsequence(vec!["ratelimit", "ratelimit-policy", "ratelimit-remaining", "ratelimit-reset",
                "x-ratelimit-remaining", "x-ratelimit-reset", "date"], 0..=7),
            values in proptest::collection::vec("[ -~]{0,40}|\"[a-z]\";r=[0-9]{1,30};t=[0-9]{1,30}|[0-9]{1,30}", 7),
        ) {
            let mut map = HeaderMap::new();
            for (name, value) in names.iter().zip(&values) {
                map.append(*name, HeaderValue::from_str(value).expect("a header"));
            }
            if let Some(advice) = Advice::of(&map, NOW) {
                prop_assert!(advice.resets_in <= LONGEST_HOLD);
            }
        }
    }
}
