//! The private part of a row's error: sealed beside its code and status.

use serde::{Deserialize, Serialize};

use super::open_batch::OpenBatch;
use crate::{
    crypto::Purpose,
    model::{FailureCode, StepFailure},
    store::claims::LastError,
};

/// What only those may see who may see the row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorPayload {
    /// One sentence for a person.
    pub message: String,
    /// The beginning of the answer's body.
    pub body: Option<String>,
}

impl ErrorPayload {
    /// What is to be sealed of a failure.
    pub fn of(failure: &StepFailure) -> Self {
        Self { message: failure.message.clone(), body: failure.body.clone() }
    }

    /// Sealed for this row and purpose.
    pub fn seal(&self, batch: &OpenBatch, number: u32) -> Vec<u8> {
        let plain = serde_json::to_vec(self).unwrap_or_default();
        batch.key.seal(batch.place(Purpose::Error, number), &plain)
    }

    /// Opens what was sealed of a row's last error. What does not open is told as such: the row's code and status
    /// are still worth showing.
    pub fn open(batch: &OpenBatch, number: u32, last: &LastError) -> Self {
        let opened = batch.key.open(batch.place(Purpose::Error, number), &last.sealed).ok();
        opened.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_else(|| Self {
            message: match last.code {
                FailureCode::Undecryptable => "The row cannot be opened with its batch's key.",
                _ => "What was noted of this error cannot be opened.",
            }
            .to_owned(),
            body: None,
        })
    }
}
