//! How a request of a step ended, and what that means for the row.

use std::{collections::BTreeMap, time::Duration};

use super::Saved;

/// Why a row failed, in a word that programs can rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray, strum::EnumString)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum FailureCode {
    /// What a step waits for did not come about in time.
    NotReady,
    /// It answered 429 until the row's time was up.
    RateLimited,
    /// It answered 401 until the row's time was up.
    Unauthorized,
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
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// As the schema and the API spell it.
    pub fn as_str(self) -> &'static str {
        self.into_str()
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

/// What a request did downstream, as far as can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It certainly never left: nothing was connected, or nothing could be written.
    NotSent,
    /// It was answered, and turned away: a status that says no, before anything was done.
    Nothing,
    /// It left, and was not answered whole, or by 408 or a 5xx other than 503: what was asked for may have happened.
    Perhaps,
    /// It was accepted, although the answer is not what the step needs: what was asked for has probably happened.
    Done,
}

impl Outcome {
    /// What the request did downstream, as far as can be told.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Success { .. } => Effect::Done,
            Self::Transient { effect, .. } | Self::Permanent { effect, .. } => *effect,
        }
    }
}

/// How one request of a step ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// An accepted status with everything that `save` asks for.
    Success {
        /// The answer's status.
        http_status: u16,
        /// Name -> value.
        saved: BTreeMap<String, Saved>,
    },
    /// Worth another try later.
    Transient {
        /// What the row fails with when its tries or its time are used up.
        failure: StepFailure,
        /// What it did downstream.
        effect: Effect,
        /// Whether it counts as an attempt: not for 401, 429 and 503, nor for the unanswered probe of a closed gate.
        counted: bool,
        /// How long the answer asks this row to wait. What closes the gate for everybody is not told here.
        retry_after: Option<Duration>,
    },
    /// The row fails at once.
    Permanent {
        /// What it fails with.
        failure: StepFailure,
        /// What it did downstream.
        effect: Effect,
    },
}
