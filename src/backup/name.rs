//! What scheduled backups are called.

use std::{fmt, str::FromStr};

use crate::{crypto::MacKey, model::Timestamp};

/// `20261124T151000Z-3f9a2c1b`: the second in which it was begun, in UTC, so that names sort by time; and whose it is.
///
/// Several appliances can share a bucket or a folder, so each has a mark of its own, which a restored one keeps, and
/// removes nothing that bears another. The mark is made of the appliance's secret and tells nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScheduledName {
    /// When it was begun, to the second.
    pub at: Timestamp,
    /// Whose it is.
    pub mark: String,
}

/// Letters of a mark.
const MARK_LETTERS: usize = 8;
const SECOND: i64 = 1_000;

impl ScheduledName {
    /// The name of one that is begun now.
    pub(super) fn new(at: Timestamp, mark: &str) -> Self {
        Self { at: Timestamp(at.0 - at.0.rem_euclid(SECOND)), mark: mark.to_owned() }
    }

    /// The mark of the appliance with this secret.
    pub(super) fn mark_of(identity: &MacKey) -> String {
        let tag = identity.tag(&[b"the mark of scheduled backups"]);
        tag.iter().take(MARK_LETTERS / 2).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for ScheduledName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `2026-11-24T15:10:00.000Z`, without what is in the way in a file's name.
        let at: String = self.at.to_string().chars().filter(|letter| !"-:".contains(*letter)).collect();
        write!(f, "{}Z-{}", at.split('.').next().unwrap_or_default(), self.mark)
    }
}

impl FromStr for ScheduledName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, mark) = text.split_once("Z-").ok_or(())?;
        let is_time = at.len() == 15 && at.bytes().enumerate().all(|(at, byte)| (at == 8) != byte.is_ascii_digit());
        let is_mark = mark.len() == MARK_LETTERS && mark.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
        if !is_time || !is_mark {
            return Err(());
        }
        let part = |from: usize, to: usize| at.get(from..to).ok_or(());
        let [date, time] = [[part(0, 4)?, part(4, 6)?, part(6, 8)?], [part(9, 11)?, part(11, 13)?, part(13, 15)?]];
        let at = format!("{}T{}Z", date.join("-"), time.join(":")).parse()?;
        let name = Self { at, mark: mark.to_owned() };
        // `T` is the only other letter.
        if name.to_string() == text { Ok(name) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_is_written_and_sorts_by_time() {
        let name = ScheduledName::new(Timestamp(1_786_000_000_123), "0123abcd");
        assert_eq!(name.to_string(), "20260806T070640Z-0123abcd");
        assert_eq!("20260806T070640Z-0123abcd".parse(), Ok(name.clone()));
        let later = ScheduledName::new(Timestamp(1_786_000_000_123 + 86_400_000), "00000000");
        assert!(later > name && later.to_string() > name.to_string());
        for other in [
            "",
            "friday",
            "20260806T070640Z",
            "20260806T070640Z-0123abc",
            "20260806T070640Z-0123ABCD",
            "20260806x070640Z-0123abcd",
            "20261306T070640Z-0123abcd",
            "2026-0806T07064Z-0123abcd",
        ] {
            assert_eq!(other.parse::<ScheduledName>(), Err(()), "{other}");
        }
    }

    #[test]
    fn a_mark_belongs_to_its_secret() {
        let key = |byte: u8| MacKey::from_bytes(&[byte; 32]).expect("32 bytes");
        let mark = ScheduledName::mark_of(&key(1));
        assert_eq!(mark, ScheduledName::mark_of(&key(1)));
        assert_ne!(mark, ScheduledName::mark_of(&key(2)));
        assert!(ScheduledName { at: Timestamp(0), mark }.to_string().parse::<ScheduledName>().is_ok());
    }
}
