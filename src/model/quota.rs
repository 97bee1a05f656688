//! What one client may have here at most.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// What a row is counted with besides its text: its own share of the work table, and what is kept of its answers, which is
/// counted by itself where it is more than [`KEPT_OF_A_ROW`].
const BYTES_A_ROW: u64 = 600;
/// What steps save of the usual answers, with their history, or what a failure leaves. The trigger `rows_saved` has it too.
pub const KEPT_OF_A_ROW: u64 = 500;

/// The quota of uploads that are under way, as the configuration spells it.
pub const UPLOADS_AT_ONCE: &str = "uploads_at_once";

/// Something that is limited for each client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Quota {
    /// Rows that are not finished.
    PendingRows,
    /// Bytes of everything that is stored of batches ([`Stored`]).
    StoredBytes,
    /// Batches, finished ones too, until they are deleted.
    Batches,
}

impl Quota {
    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// So much of each: a limit, or what is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    /// Of [`Quota::PendingRows`].
    pub pending_rows: u64,
    /// Of [`Quota::StoredBytes`].
    pub stored_bytes: u64,
    /// Of [`Quota::Batches`].
    pub batches: u64,
}

/// What a client may have at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// What its batches may add up to.
    pub amounts: Amounts,
    /// Uploads of its that may be under way.
    pub uploads_at_once: u32,
}

/// What was set for one client in the place of what is configured for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OwnQuotas {
    /// Of [`Quota::PendingRows`].
    pub pending_rows: Option<u32>,
    /// Of [`Quota::StoredBytes`].
    pub stored_bytes: Option<u64>,
    /// Of [`Quota::Batches`].
    pub batches: Option<u32>,
    /// Uploads of its that may be under way.
    pub uploads_at_once: Option<u32>,
}

impl OwnQuotas {
    /// What holds for the client, where this is configured.
    pub fn over(self, configured: Quotas) -> Quotas {
        let Quotas { amounts, uploads_at_once } = configured;
        Quotas {
            amounts: Amounts {
                pending_rows: self.pending_rows.map_or(amounts.pending_rows, u64::from),
                stored_bytes: self.stored_bytes.unwrap_or(amounts.stored_bytes),
                batches: self.batches.map_or(amounts.batches, u64::from),
            },
            uploads_at_once: self.uploads_at_once.unwrap_or(uploads_at_once),
        }
    }
}

/// What is changed of a client's own quotas: what is left out stays, and `null` goes back to what is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaChanges {
    /// Rows that are not finished.
    #[serde(deserialize_with = "said")]
    pub pending_rows: Option<Option<u32>>,
    /// Bytes of files and rows together.
    #[serde(deserialize_with = "said")]
    pub stored_bytes: Option<Option<u64>>,
    /// Batches, finished ones too, until they are deleted.
    #[serde(deserialize_with = "said")]
    pub batches: Option<Option<u32>>,
    /// Uploads under way.
    #[serde(deserialize_with = "said")]
    pub uploads_at_once: Option<Option<u32>>,
}

impl QuotaChanges {
    /// Those quotas after these changes.
    pub fn of(self, own: OwnQuotas) -> OwnQuotas {
        OwnQuotas {
            pending_rows: self.pending_rows.unwrap_or(own.pending_rows),
            stored_bytes: self.stored_bytes.unwrap_or(own.stored_bytes),
            batches: self.batches.unwrap_or(own.batches),
            uploads_at_once: self.uploads_at_once.unwrap_or(own.uploads_at_once),
        }
    }

    /// Each change, by the name of its quota.
    pub fn each(self) -> impl Iterator<Item = (&'static str, Option<u64>)> {
        let changes = [
            (Quota::PendingRows.as_str(), self.pending_rows.map(|most| most.map(u64::from))),
            (Quota::StoredBytes.as_str(), self.stored_bytes),
            (Quota::Batches.as_str(), self.batches.map(|most| most.map(u64::from))),
            (UPLOADS_AT_ONCE, self.uploads_at_once.map(|most| most.map(u64::from))),
        ];
        changes.into_iter().filter_map(|(name, change)| change.map(|most| (name, most)))
    }
}

/// Tells `null` from what was left out.
pub fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// That there would be more than may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Of what.
    pub quota: Quota,
    /// How much there may be.
    pub limit: u64,
    /// How much there is.
    pub used: u64,
    /// How much would come to it.
    pub more: u64,
}

/// Everything of batches that grows with what their client sends. What else there is of one has a fixed size, and
/// [`Quota::Batches`] counts it: its data key, its counts, the answer to its upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    /// Bytes of their files, inflated.
    pub file_bytes: u64,
    /// Their rows.
    pub rows: u64,
    /// Bytes that came with their uploads beside the file: the context, and what was found wrong in records left out.
    pub kept_bytes: u64,
    /// Bytes that are kept of rows' answers: what steps saved, and bodies of failed ones, above [`KEPT_OF_A_ROW`].
    pub saved_bytes: u64,
}

impl Stored {
    /// What that takes: about as many bytes again as the files have, and something for each row.
    pub fn bytes(self) -> u64 {
        let rows = self.rows.saturating_mul(BYTES_A_ROW);
        self.file_bytes
            .saturating_mul(2)
            .saturating_add(rows)
            .saturating_add(self.kept_bytes)
            .saturating_add(self.saved_bytes)
    }
}

impl Amounts {
    fn each(self) -> [(Quota, u64); 3] {
        [
            (Quota::Batches, self.batches),
            (Quota::PendingRows, self.pending_rows),
            (Quota::StoredBytes, self.stored_bytes),
        ]
    }

    /// The first limit that these amounts are, beyond which there would be more than is used already.
    pub fn exceeded_by(self, used: Self, more: Self) -> Option<Exceeded> {
        let each = self.each().into_iter().zip(used.each()).zip(more.each());
        let mut each = each.map(|(((quota, limit), (_, used)), (_, more))| Exceeded { quota, limit, used, more });
        each.find(|it| it.used.saturating_add(it.more) > it.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_for_a_client_goes_before_what_is_configured_until_it_is_taken_back() {
        let configured =
            Quotas { amounts: Amounts { pending_rows: 10, stored_bytes: 1_000, batches: 2 }, uploads_at_once: 2 };
        let changes =
            QuotaChanges { pending_rows: Some(Some(3)), uploads_at_once: Some(Some(7)), ..Default::default() };
        let own = changes.of(OwnQuotas { batches: Some(9), ..OwnQuotas::default() });
        let holds = own.over(configured);
        assert_eq!(holds.amounts, Amounts { pending_rows: 3, stored_bytes: 1_000, batches: 9 });
        assert_eq!(holds.uploads_at_once, 7);
        let back: QuotaChanges = serde_json::from_str(r#"{"pending_rows": null, "batches": null}"#).expect("changes");
        assert_eq!(back.of(own).over(configured).amounts, configured.amounts);
        assert_eq!(back.each().collect::<Vec<_>>(), [("pending_rows", None), ("batches", None)]);
    }

    #[test]
    fn a_limit_can_be_reached_and_not_passed() {
        let limits = Amounts { pending_rows: 10, stored_bytes: 10_000, batches: 2 };
        let used = Amounts { pending_rows: 7, stored_bytes: 9_000, batches: 1 };
        let more = |pending_rows, stored_bytes| Amounts { pending_rows, stored_bytes, batches: 1 };
        assert_eq!(limits.exceeded_by(used, more(3, 1_000)), None);
        let exceeded = limits.exceeded_by(used, more(4, 1_001)).expect("both");
        assert_eq!(exceeded, Exceeded { quota: Quota::PendingRows, limit: 10, used: 7, more: 4 });
        let exceeded = limits.exceeded_by(used, more(3, u64::MAX)).expect("bytes");
        assert_eq!(exceeded.quota.as_str(), "stored_bytes");
        let full = Amounts { batches: 2, ..used };
        assert_eq!(limits.exceeded_by(full, more(1, 1)).expect("a third").quota, Quota::Batches);
        assert_eq!(Stored { file_bytes: 1_000, rows: 10, kept_bytes: 7, saved_bytes: 5 }.bytes(), 8_012);
    }
}
