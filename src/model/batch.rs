//! A batch: one uploaded CSV and all the work it stands for.

use super::IllegalTransition;

/// Where a batch is on its way.
///
/// | status | means | moved on by |
/// |---|---|---|
/// | `pending` | the file is whole, valid and stored; its rows are not in the work table yet | extraction, or a cancel |
/// | `processing` | one extractor owns it and writes its rows | the extractor; a rescue when its claim expired |
/// | `queued` | every row is in the work table | the transaction that ends its last row; a cancel |
/// | `completed` | no unfinished row is left (failed ones may be) | a retry of failed rows |
/// | `failed` | it can never be extracted; the reason is kept | nobody |
/// | `cancelled` | somebody ended it, and nothing of it is in flight any more | nobody |
///
/// `paused` is a flag beside the status and never a status.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::EnumString,
)]
#[strum(serialize_all = "snake_case", const_into_str)]
#[serde(rename_all = "snake_case")]
pub enum BatchStatus {
    /// Stored, not yet extracted.
    Pending,
    /// Being extracted.
    Processing,
    /// In the work table.
    Queued,
    /// No unfinished row is left.
    Completed,
    /// Cannot be extracted.
    Failed,
    /// Ended by somebody.
    Cancelled,
}

/// What can happen to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchEvent {
    /// An extractor takes it.
    ClaimForExtraction,
    /// The extractor gives it back, or its claim expired.
    ReleaseExtraction,
    /// Its last row went into the work table.
    FinishExtraction,
    /// Extraction can never succeed.
    FailExtraction,
    /// Its last unfinished row ended.
    Complete,
    /// Somebody ended it, and nothing is in flight.
    Cancel,
    /// Failed rows of it are tried again.
    Reopen,
}

impl BatchStatus {
    /// Every status, in the order of a batch's life.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The only place that says which move leads where.
    pub fn on(self, event: BatchEvent) -> Result<Self, IllegalTransition> {
        use BatchEvent as E;
        match (self, event) {
            (Self::Pending, E::ClaimForExtraction) => Ok(Self::Processing),
            (Self::Processing, E::ReleaseExtraction) => Ok(Self::Pending),
            (Self::Processing, E::FinishExtraction) => Ok(Self::Queued),
            (Self::Processing, E::FailExtraction) => Ok(Self::Failed),
            (Self::Queued, E::Complete) => Ok(Self::Completed),
            (Self::Completed, E::Reopen) => Ok(Self::Queued),
            (Self::Pending | Self::Processing | Self::Queued, E::Cancel) => Ok(Self::Cancelled),
            (status, event) => Err(IllegalTransition { noun: "batch", status: status.as_str(), event: event.as_str() }),
        }
    }

    /// Whether nothing will ever happen to it by itself.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// As the schema and the API spell it.
    pub fn as_str(self) -> &'static str {
        self.into_str()
    }
}

impl BatchEvent {
    fn as_str(self) -> &'static str {
        match self {
            Self::ClaimForExtraction => "be claimed for extraction",
            Self::ReleaseExtraction => "be released by an extractor",
            Self::FinishExtraction => "be queued",
            Self::FailExtraction => "fail to extract",
            Self::Complete => "be completed",
            Self::Cancel => "be cancelled",
            Self::Reopen => "be reopened",
        }
    }
}

/// How many rows of a batch have each status. They are for showing: no decision is made on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, schemars::JsonSchema)]
pub struct Counts {
    /// Valid records of the file; always the sum of the other five.
    pub total: u32,
    /// Not yet claimed, or waiting for another try.
    pub pending: u32,
    /// Being worked on right now.
    pub processing: u32,
    /// Went through every step.
    pub completed: u32,
    /// Ended by an error.
    pub failed: u32,
    /// Ended before they were worked.
    pub cancelled: u32,
}

impl Counts {
    /// Whether the five counts add up to the total.
    pub fn add_up(&self) -> bool {
        self.pending + self.processing + self.completed + self.failed + self.cancelled == self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_retry_leaves_a_final_status() {
        use BatchEvent as E;
        let events = [
            E::ClaimForExtraction,
            E::ReleaseExtraction,
            E::FinishExtraction,
            E::FailExtraction,
            E::Complete,
            E::Cancel,
        ];
        for status in BatchStatus::ALL.iter().copied().filter(|status| status.is_finished()) {
            for event in events {
                assert!(status.on(event).is_err(), "{status:?} on {event:?}");
            }
        }
        assert_eq!(
            BatchStatus::Completed.on(E::Cancel).unwrap_err().to_string(),
            "a batch that is completed cannot be cancelled"
        );
    }

    #[test]
    fn the_usual_way_is_pending_processing_queued_completed() {
        let way = [BatchEvent::ClaimForExtraction, BatchEvent::FinishExtraction, BatchEvent::Complete];
        let end = way.into_iter().try_fold(BatchStatus::Pending, BatchStatus::on);
        assert_eq!(end, Ok(BatchStatus::Completed));
    }
}
