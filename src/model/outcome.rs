//! How a request of a step ended, and what that means for the row.

use std::{collections::BTreeMap, str::FromStr};

use serde_json::Value;

/// Why a row failed, in a word that programs can rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureCode {
    /// The dependency answered with a status that says no.
    Rejected,
    /// It said yes, but the answer is too large, not JSON, or without what `save` asks for.
    BadAnswer,
    /// No answer in time.
    Timeout,
    /// No connection, or one that broke.
    Connection,
    /// It answered 5xx.
    ServerError,
    /// A request left, its answer never came, and sending it again could do things twice: a person decides.
    OutcomeUnknown,
    /// The row cannot be opened with its batch's key.
    Undecryptable,
    /// The step's template asks for something that is not there.
    Template,
}

impl FailureCode {
    /// Every code.
    pub const ALL: [Self; 8] = [
        Self::Rejected,
        Self::BadAnswer,
        Self::Timeout,
        Self::Connection,
        Self::ServerError,
        Self::OutcomeUnknown,
        Self::Undecryptable,
        Self::Template,
    ];

    /// As the schema and the API spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::BadAnswer => "bad_answer",
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::ServerError => "server_error",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Undecryptable => "undecryptable",
            Self::Template => "template",
        }
    }
}

impl FromStr for FailureCode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|code| code.as_str() == text).ok_or(())
    }
}

/// What went wrong at a step: what the row's `error` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFailure {
    /// The kind of fault.
    pub code: FailureCode,
    /// The answer's status, where one came.
    pub http_status: Option<u16>,
    /// One sentence for a person. Holds nothing of the row, but is sealed all the same.
    pub message: String,
    /// The beginning of the answer's body. Private: sealed before it is kept.
    pub body: Option<String>,
}

/// How far a request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// It certainly never left: nothing was connected, or nothing could be written.
    NotSent,
    /// It may have left, and no answer came.
    Unanswered,
    /// An answer came.
    Answered,
}

/// How one request of a step ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// 2xx with everything that `save` asks for.
    Success {
        /// The answer's status.
        http_status: u16,
        /// Name -> value.
        saved: BTreeMap<String, Value>,
    },
    /// Worth another try later.
    Transient {
        /// What the row fails with when its tries or its time are used up.
        failure: StepFailure,
        /// How far it got.
        reached: Reached,
        /// Whether it counts as an attempt: not for 429 and 503, nor for the unanswered probe of a closed gate.
        counted: bool,
    },
    /// The row fails at once.
    Permanent(StepFailure),
}
