//! Points in time, as the database and the API have them.

use std::{fmt, str::FromStr, time::Duration};

use jiff::{fmt::temporal::Pieces, tz::Offset};

/// Milliseconds since 1970-01-01T00:00:00Z. Shown as RFC 3339 in UTC, with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This point moved into the future; saturates at the end of time.
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(millis(wait)))
    }

    /// This point moved into the past; saturates at the beginning of time.
    pub fn before(self, age: Duration) -> Self {
        Self(self.0.saturating_sub(millis(age)))
    }

    /// For a sentence: the time of day, with the date where that is not `today`'s. UTC, like all times here.
    pub fn told(self, today: Self) -> String {
        let shown = |at: Self| jiff::Timestamp::from_millisecond(at.0).map(|at| Offset::UTC.to_datetime(at));
        match (shown(self), shown(today)) {
            (Ok(at), Ok(now)) if at.date() == now.date() => at.strftime("%H:%M:%S UTC").to_string(),
            (Ok(at), _) => at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            (Err(_), _) => self.to_string(),
        }
    }

    /// The same for a time that is still to come: the next whole second, so that what is told has never passed.
    pub fn told_ahead(self, today: Self) -> String {
        Self(self.0.saturating_add(999).div_euclid(1_000).saturating_mul(1_000)).told(today)
    }

    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = ();

    /// Reads RFC 3339, with any offset.
    fn from_str(text: &str) -> Result<Self, ()> {
        let read = text.parse().map(|at: jiff::Timestamp| Self(at.as_millisecond()));
        read.or_else(|_| {
            if is_at_the_end_of_time(text) { Ok(Self(jiff::Timestamp::MAX.as_second() * 1_000)) } else { Err(()) }
        })
    }
}

/// Whether it is a time of the last day of the year 9999, where RFC 3339 goes on, and jiff's timestamps do not.
fn is_at_the_end_of_time(text: &str) -> bool {
    Pieces::parse(text).is_ok_and(|read| {
        let has_all = read.time().is_some() && read.to_numeric_offset().is_some();
        has_all && read.date() >= jiff::civil::date(9999, 12, 30)
    })
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|()| serde::de::Error::custom("is not a time of RFC 3339"))
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_shown_as_rfc_3339_in_utc() {
        assert_eq!(Timestamp(1_786_000_000_123).to_string(), "2026-08-06T07:06:40.123Z");
        for text in ["2026-08-06T07:06:40.123Z", "2026-08-06T09:06:40.123+02:00"] {
            assert_eq!(text.parse(), Ok(Timestamp(1_786_000_000_123)), "{text}");
        }
        assert_eq!(
            "9999-12-31T23:59:59Z".parse::<Timestamp>().expect("a time").to_string(),
            "9999-12-30T22:00:00.000Z"
        );
        for wrong in ["9999-12-31", "", "yesterday", "2026-08-06", "07:06:40"] {
            assert_eq!(wrong.parse::<Timestamp>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn is_told_by_the_time_of_day_on_the_same_day() {
        let (at, next_day) = (Timestamp(1_786_000_000_123), Timestamp(1_786_000_000_123 + 86_400_000));
        assert_eq!((at.told(at).as_str(), at.told(next_day).as_str()), ("07:06:40 UTC", "2026-08-06 07:06:40 UTC"));
    }

    #[test]
    fn differences_never_go_below_zero() {
        let (early, late) = (Timestamp(1_000), Timestamp(3_500));
        assert_eq!(late.since(early), Duration::from_millis(2_500));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
