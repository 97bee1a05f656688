//! How much one caller may ask of our own API: a token bucket for each, and the headers that tell it.
//!
//! Kept in memory alone: after a restart everybody begins with a full bucket. The headers are those of
//! draft-ietf-httpapi-ratelimit-headers-10.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use warp::http::{HeaderMap, HeaderValue};

/// Buckets that are kept. A full one says no more than none, so those go first.
const BUCKETS: usize = 4_096;
/// The period that the limit is set for.
const PERIOD_SECONDS: f64 = 60.0;

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Metered {
    /// A client, by its key in the database.
    Client(i64),
    /// An operator, by name.
    Operator(String),
}

/// The buckets.
pub struct Meter {
    per_period: u32,
    buckets: Mutex<HashMap<Metered, Bucket>>,
}

struct Bucket {
    requests: f64,
    /// Steady nanoseconds.
    at: i64,
}

/// What a caller has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The limit that holds.
    per_period: u32,
    /// Requests that may be made at once.
    remaining: u32,
    /// Until all of the limit is there again, in seconds.
    full_in: u32,
    /// `None`: go ahead. Else the seconds until the next request may be made.
    pub refused_for: Option<u64>,
}

impl Meter {
    /// So many requests a minute for each caller, all of them at once where they were not used.
    pub fn new(per_minute: u32) -> Self {
        Self { per_period: per_minute, buckets: Mutex::default() }
    }

    /// Counts a request, at this steady time.
    pub fn take(&self, who: Metered, now: i64) -> Reading {
        let full = f64::from(self.per_period);
        let per_nanosecond = full / PERIOD_SECONDS / 1e9;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS && !buckets.contains_key(&who) {
            buckets.retain(|_, bucket| bucket.requests + (now - bucket.at) as f64 * per_nanosecond < full);
        }
        let bucket = buckets.entry(who).or_insert(Bucket { requests: full, at: now });
        bucket.requests = (bucket.requests + (now - bucket.at).max(0) as f64 * per_nanosecond).min(full);
        bucket.at = now;
        let allowed = bucket.requests >= 1.0;
        if allowed {
            bucket.requests -= 1.0;
        }
        let seconds = |requests: f64| (requests / per_nanosecond / 1e9).ceil();
        Reading {
            per_period: self.per_period,
            remaining: bucket.requests as u32,
            full_in: seconds(full - bucket.requests) as u32,
            refused_for: (!allowed).then(|| seconds(1.0 - bucket.requests).max(1.0) as u64),
        }
    }
}

impl Reading {
    /// Tells it beside an answer.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let policy = format!("\"caller\";q={};w={PERIOD_SECONDS:.0}", self.per_period);
        let left = format!("\"caller\";r={};t={}", self.remaining, self.full_in);
        for (name, text) in [("ratelimit-policy", policy), ("ratelimit", left)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn each_caller_has_a_bucket_that_fills_again() {
        let meter = Meter::new(60);
        let acme = || Metered::Client(1);
        let left: Vec<_> = (0..60).map(|_| meter.take(acme(), 0)).collect();
        assert!(left.iter().all(|reading| reading.refused_for.is_none()));
        assert_eq!((left[0].remaining, left[59].remaining, left[59].full_in), (59, 0, 60));
        assert_eq!(meter.take(acme(), SECOND / 2).refused_for, Some(1));
        for other in [Metered::Client(2), Metered::Operator("acme".into())] {
            assert_eq!(meter.take(other, SECOND / 2).refused_for, None, "others have their own");
        }
        assert_eq!(meter.take(acme(), SECOND).refused_for, None);
        assert_eq!(meter.take(acme(), SECOND).refused_for, Some(1));
        assert_eq!(meter.take(acme(), 1_000 * SECOND).remaining, 59, "it never holds more than the limit");
    }

    #[test]
    fn full_buckets_are_forgotten_when_there_are_many() {
        let meter = Meter::new(60);
        for client in 0..3 * BUCKETS as i64 {
            meter.take(Metered::Client(client), client * SECOND);
        }
        assert!(meter.buckets.lock().expect("not poisoned").len() <= BUCKETS);
    }

    #[test]
    fn is_told_in_structured_fields() {
        let mut headers = HeaderMap::new();
        Meter::new(60).take(Metered::Client(1), 0).tell(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"caller\";q=60;w=60");
        assert_eq!(headers["ratelimit"], "\"caller\";r=59;t=1");
    }
}
