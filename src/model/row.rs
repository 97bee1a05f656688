//! A row: one record of a batch.

use super::IllegalTransition;

/// Where a row is on its way.
///
/// | status | means | moved on by |
/// |---|---|---|
/// | `pending` | nobody works on it; with a `next_attempt_at` it was worked on before and waits for its next try | a claim, a cancel |
/// | `processing` | one worker owns it and is making its calls | that worker; a rescue when the claim expired |
/// | `completed` | every step succeeded | nobody |
/// | `failed` | a step failed for good; the error is kept | a person's retry |
/// | `cancelled` | its batch was ended before it was worked | nobody |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray, strum::EnumString)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum RowStatus {
    /// Nobody works on it.
    Pending,
    /// One worker owns it.
    Processing,
    /// Went through every step.
    Completed,
    /// Ended by an error.
    Failed,
    /// Ended before it was worked.
    Cancelled,
}

/// What can happen to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowEvent {
    /// A worker takes it.
    Claim,
    /// The worker gives it back, for later or because its claim expired.
    Release,
    /// Its last step succeeded.
    Complete,
    /// A step failed for good.
    Fail,
    /// Its batch was ended.
    Cancel,
    /// A person wants it tried again.
    Retry,
}

impl RowStatus {
    /// Every status, in the order of a row's life.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The only place that says which move leads where.
    pub fn on(self, event: RowEvent) -> Result<Self, IllegalTransition> {
        use RowEvent as E;
        match (self, event) {
            (Self::Pending, E::Claim) => Ok(Self::Processing),
            (Self::Processing, E::Release) => Ok(Self::Pending),
            (Self::Processing, E::Complete) => Ok(Self::Completed),
            (Self::Processing, E::Fail) => Ok(Self::Failed),
            (Self::Pending | Self::Processing, E::Cancel) => Ok(Self::Cancelled),
            (Self::Failed, E::Retry) => Ok(Self::Pending),
            (status, event) => Err(IllegalTransition { noun: "row", status: status.as_str(), event: event.as_str() }),
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

impl RowEvent {
    fn as_str(self) -> &'static str {
        match self {
            Self::Claim => "be claimed",
            Self::Release => "be released",
            Self::Complete => "be completed",
            Self::Fail => "fail",
            Self::Cancel => "be cancelled",
            Self::Retry => "be retried",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_claimed_row_ends_by_work() {
        for event in [RowEvent::Complete, RowEvent::Fail, RowEvent::Release] {
            for &status in RowStatus::ALL {
                assert_eq!(status.on(event).is_ok(), status == RowStatus::Processing, "{status:?} on {event:?}");
            }
        }
        assert_eq!(
            RowStatus::Completed.on(RowEvent::Claim).unwrap_err().to_string(),
            "a row that is completed cannot be claimed"
        );
    }

    #[test]
    fn only_failed_rows_come_back() {
        let back: Vec<_> = RowStatus::ALL.iter().copied().filter(|status| status.on(RowEvent::Retry).is_ok()).collect();
        assert_eq!(back, [RowStatus::Failed]);
    }
}
