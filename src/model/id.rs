//! Names of things: batches, rows, and whoever holds a claim.

use std::{fmt, str::FromStr};

use ulid::Ulid;

/// A batch, to the outside: `bat_` and a ULID, so that ids sort by time and tell nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(Ulid);

impl BatchId {
    /// What every batch id begins with.
    pub const PREFIX: &'static str = "bat_";

    /// An id that nobody else has.
    pub fn random() -> Self {
        Self(Ulid::generate())
    }

    /// The 16 bytes that sealed data is bound to.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.0)
    }
}

/// A text that is not the id of a batch or a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Not `bat_…`.
    #[error("a batch id looks like bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X")]
    Batch,
    /// Not `bat_…/NUMBER`.
    #[error("a row is named BATCH/NUMBER, like bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X/17")]
    Row,
}

impl FromStr for BatchId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let ulid = text.strip_prefix(Self::PREFIX).ok_or(InvalidId::Batch)?;
        let id = Ulid::from_string(ulid).map(Self).map_err(|_| InvalidId::Batch)?;
        // Crockford's alphabet has several spellings for one id; only the canonical one is the name.
        if id.to_string() == text { Ok(id) } else { Err(InvalidId::Batch) }
    }
}

impl serde::Serialize for BatchId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for BatchId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A row, to the outside: `BATCH/NUMBER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowRef {
    /// The batch it belongs to.
    pub batch: BatchId,
    /// 1..n over the valid records of the file.
    pub number: u32,
}

impl fmt::Display for RowRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.batch, self.number)
    }
}

impl FromStr for RowRef {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (batch, number) = text.split_once('/').ok_or(InvalidId::Row)?;
        let number: u32 = number.parse().map_err(|_| InvalidId::Row)?;
        if number == 0 || number > RowId::MAX_NUMBER {
            return Err(InvalidId::Row);
        }
        Ok(Self { batch: batch.parse().map_err(|_| InvalidId::Row)?, number })
    }
}

/// A row, in the database: the batch's number in the upper bits and the row's own in the lower 24, so that a batch's
/// rows lie side by side in one rowid table and need no index to be found, walked or counted off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(pub i64);

impl RowId {
    const NUMBER_BITS: u32 = 24;
    /// The most rows that a batch can have.
    pub const MAX_NUMBER: u32 = (1 << Self::NUMBER_BITS) - 1;

    /// The row `number` of the batch with this key in the database.
    pub fn new(batch: i64, number: u32) -> Self {
        debug_assert!(number <= Self::MAX_NUMBER);
        Self(batch << Self::NUMBER_BITS | i64::from(number))
    }

    /// The batch's key in the database.
    pub fn batch(self) -> i64 {
        self.0 >> Self::NUMBER_BITS
    }

    /// The row's number in its batch.
    pub fn number(self) -> u32 {
        (self.0 & i64::from(Self::MAX_NUMBER)) as u32
    }
}

/// Who holds claims: a random name per start of a process. Never a host name: a pod comes back under the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimOwner(pub i64);

impl ClaimOwner {
    /// An owner that no other process is or was.
    pub fn random() -> Self {
        Self(rand::random_range(1..=i64::MAX))
    }
}

/// The number of a claim, which it shares with those that were made in the same go. Whoever writes for a row asks for it,
/// so that nobody writes under a claim that was lost: also not a process that has the row again, under another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimNumber(pub i64);

impl ClaimNumber {
    /// A number that no other claim has or had.
    pub fn random() -> Self {
        Self(rand::random_range(1..=i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_ids_sort_by_time_and_read_back() {
        let id = BatchId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 30);
        for wrong in ["", "bat_", "01J9ZK3V8Q2M4N6P8R0S2T4V6X", "bat_x", &id.to_string().to_lowercase()] {
            assert_eq!(wrong.parse::<BatchId>(), Err(InvalidId::Batch), "{wrong}");
        }
    }

    #[test]
    fn row_ids_pack_batch_and_number() {
        let id = RowId::new(7, RowId::MAX_NUMBER);
        assert_eq!((id.batch(), id.number()), (7, RowId::MAX_NUMBER));
        assert!(id < RowId::new(8, 1));
    }

    #[test]
    fn rows_are_named_batch_slash_number() {
        let row = RowRef { batch: BatchId::random(), number: 17 };
        assert_eq!(row.to_string().parse(), Ok(row));
        for wrong in ["17", "bat_x/1", &format!("{}/0", row.batch), &format!("{}/-1", row.batch)] {
            assert_eq!(wrong.parse::<RowRef>(), Err(InvalidId::Row), "{wrong}");
        }
    }
}
