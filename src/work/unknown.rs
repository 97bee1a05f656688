//! What a person is told of a row whose outcome is unknown.

use crate::model::{FailureCode, Step, StepFailure};

/// What a person is asked to do about a request that may have been carried out.
const ASK: &str =
    "find out at the downstream what became of it, then retry this row with code=outcome_unknown, or leave it.";

fn outcome_unknown(message: String) -> StepFailure {
    StepFailure { code: FailureCode::OutcomeUnknown, http_status: None, message, body: None }
}

pub(super) fn never_answered(step: &Step) -> StepFailure {
    let name = &step.name;
    outcome_unknown(format!(
        "A request of {name} left, and its answer never came. Sending it again could do things twice: {ASK}"
    ))
}

pub(super) fn differs(step: &Step) -> StepFailure {
    let name = &step.name;
    outcome_unknown(format!(
        "A request of {name} left that may have been carried out, and what would be sent now is another one. Sending that \
         could do things twice: {ASK}"
    ))
}

/// What came of a request that is never sent again, by an answer that does not say whether it was carried out.
pub(super) fn perhaps_done(step: &Step, failure: StepFailure) -> StepFailure {
    let (name, why) = (&step.name, &failure.message);
    let message = format!(
        "A request of {name} left and may have been carried out ({why}). Sending it again could do things twice: {ASK}"
    );
    StepFailure { code: FailureCode::OutcomeUnknown, message, ..failure }
}
