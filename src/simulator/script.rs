//! A script: rules by which the simulator answers some calls otherwise than it would, as vendors do at their worst.
//!
//! The first rule that fits a call decides. What is a row is told by the simulator itself, which hears of no rows: calls to
//! one path with the same `Idempotency-Key`, or without one the same in query and body, are tries of the same row.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use warp::http::{HeaderName, HeaderValue, StatusCode};

use super::ledger::{Short, short};

/// Rules, in order.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// The first that fits a call decides; a call that none fits is answered as ever.
    pub rules: Vec<Rule>,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Which calls it is for.
    pub when: When,
    /// What becomes of them.
    pub then: Arc<Behaviour>,
}

/// Which calls a rule is for: those that all of this fits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct When {
    /// To this path; `None`: to any.
    pub path: Option<String>,
    /// With this text in query or body.
    pub contains: Option<String>,
    /// The rows of a path, counted from 1 as they come for the first time.
    pub rows: Count,
    /// The tries of a row at this path, counted from 1.
    pub tries: Count,
    /// The calls of a path, whosever they are, counted from 1.
    pub calls: Count,
}

impl When {
    /// Whether it fits whatever the other fits, so that behind it the other would never be reached.
    pub fn covers(&self, other: &Self) -> bool {
        let anything = Self { path: self.path.clone(), ..Self::default() };
        *self == *other || (*self == anything && (self.path.is_none() || self.path == other.path))
    }
}

/// Some of the numbers from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// From the first to the last, both included.
    Span(u64, u64),
    /// Every so-manieth.
    Every(u64),
}

impl Default for Count {
    /// All of them.
    fn default() -> Self {
        Self::Span(1, u64::MAX)
    }
}

impl Count {
    fn has(self, number: u64) -> bool {
        match self {
            Self::Span(first, last) => (first..=last).contains(&number),
            Self::Every(step) => number.is_multiple_of(step.max(1)),
        }
    }
}

/// What becomes of a call. `Default` is what would have become of it without a rule.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// Whether what is asked for is done (an invite is created), whatever is answered.
    pub is_done: bool,
    /// How long after the request came, and was done, the answer comes; `None`: as always.
    pub latency: Option<Duration>,
    /// `None`: that of the usual answer.
    pub status: Option<StatusCode>,
    /// Besides the usual ones, or in their place.
    pub headers: Vec<(HeaderName, HeaderText)>,
    /// In place of the usual one.
    pub body: Option<Bytes>,
    /// In place of a whole answer.
    pub fault: Option<Fault>,
    /// How long after the answer the connection is closed, without a word and whatever comes.
    pub closes_after: Option<Duration>,
}

/// What comes in place of a whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing, for longer than anybody waits.
    Timeout,
    /// The end of the connection.
    Connection,
    /// The head and half of the body, and then the end of the connection.
    CutOff,
}

/// A header's value.
#[derive(Clone)]
pub enum HeaderText {
    /// As it stands.
    Fixed(HeaderValue),
    /// Made for each answer: the time is not for this room to know.
    Made(Arc<dyn Fn() -> HeaderValue + Send + Sync>),
}

impl HeaderText {
    pub(super) fn value(&self) -> HeaderValue {
        match self {
            Self::Fixed(value) => value.clone(),
            Self::Made(make) => make(),
        }
    }
}

impl fmt::Debug for HeaderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HeaderText").field(&self.value()).finish()
    }
}

/// A script that is being played: it counts.
#[derive(Debug, Default)]
pub(super) struct Play {
    script: Script,
    paths: HashMap<String, Seen>,
}

/// What came to one path.
#[derive(Debug, Default)]
struct Seen {
    calls: u64,
    /// Of each row its number, and how often it was tried.
    rows: HashMap<Short, (u64, u64)>,
}

/// A call, as far as rules look at it.
pub(super) struct Asked<'c> {
    pub path: &'c str,
    pub query: &'c str,
    pub key: Option<&'c [u8]>,
    pub body: &'c [u8],
}

impl Asked<'_> {
    fn row(&self) -> Short {
        match self.key {
            Some(key) => short(&[b"key", key]),
            None => short(&[b"content", self.query.as_bytes(), self.body]),
        }
    }

    fn contains(&self, text: &str) -> bool {
        let text = text.as_bytes();
        let has = |whole: &[u8]| whole.windows(text.len().max(1)).any(|part| part == text);
        has(self.query.as_bytes()) || has(self.body)
    }
}

impl Play {
    pub(super) fn new(script: Script) -> Self {
        Self { script, paths: HashMap::new() }
    }

    /// What becomes of a call, where a rule says so. Counts it in.
    pub(super) fn next(&mut self, asked: &Asked<'_>) -> Option<Arc<Behaviour>> {
        if self.script.rules.is_empty() {
            return None;
        }
        let seen = self.paths.entry(asked.path.to_owned()).or_default();
        seen.calls += 1;
        let next_row = seen.rows.len() as u64 + 1;
        let (row, tries) = seen.rows.entry(asked.row()).or_insert((next_row, 0));
        *tries += 1;
        let (row, tries, call) = (*row, *tries, seen.calls);
        let fits = |when: &When| {
            when.path.as_ref().is_none_or(|path| path == asked.path)
                && when.rows.has(row)
                && when.tries.has(tries)
                && when.calls.has(call)
                && when.contains.as_ref().is_none_or(|text| asked.contains(text))
        };
        self.script.rules.iter().find(|rule| fits(&rule.when)).map(|rule| rule.then.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(whens: Vec<When>) -> Play {
        let rule = |(number, when): (u16, When)| {
            let status = StatusCode::from_u16(500 + number).ok();
            Rule { when, then: Arc::new(Behaviour { status, ..Behaviour::default() }) }
        };
        Play::new(Script { rules: (0..).zip(whens).map(rule).collect() })
    }

    /// The number of the rule that decides.
    fn says(play: &mut Play, path: &str, key: Option<&str>, body: &str) -> Option<u16> {
        let asked = Asked { path, query: "q=1", key: key.map(str::as_bytes), body: body.as_bytes() };
        Some(play.next(&asked)?.status?.as_u16() - 500)
    }

    #[test]
    fn rows_tries_and_calls_are_counted_for_each_path_and_the_first_rule_that_fits_decides() {
        let of = |path: &str| When { path: Some(path.to_owned()), ..When::default() };
        let mut play = play(vec![
            When { rows: Count::Span(2, 2), tries: Count::Span(1, 2), ..of("/a") },
            When { calls: Count::Every(3), ..of("/a") },
            When { contains: Some("p7@".to_owned()), ..When::default() },
        ]);
        assert_eq!(says(&mut play, "/a", None, "one"), None);
        assert_eq!(says(&mut play, "/a", Some("k"), "two"), Some(0));
        // The same key is the same row, whatever comes with it.
        assert_eq!(says(&mut play, "/a", Some("k"), "changed"), Some(0), "and the third call, of which rule 1 is");
        assert_eq!(says(&mut play, "/a", Some("k"), "two"), None, "its third try");
        assert_eq!(says(&mut play, "/b", None, "two"), None, "another path has its own rows");
        assert_eq!(says(&mut play, "/a", None, "one"), None, "the first row again, and the fifth call");
        assert_eq!(says(&mut play, "/a", None, "p7@"), Some(1), "the sixth call");
        assert_eq!(says(&mut play, "/b", None, "is p7@x"), Some(2));
        assert_eq!(says(&mut play, "/b", None, "is p70@x"), None);
    }
}
