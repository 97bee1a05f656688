//! What a trace is told of a row under way, where there is one.

use std::time::Duration;

use super::{ending::Ended, settling::Settling, worker::Worker};
use crate::{
    model::{Step, StepFailure},
    telemetry::traces::{Request, RowEnd},
};

impl Worker {
    /// A request of this step has ended. Called before it is noted in the row's history.
    pub(super) fn trace_request(
        &mut self,
        step: &Step,
        duration: Duration,
        http_status: Option<u16>,
        failure: Option<&StepFailure>,
    ) {
        let Some(trace) = &mut self.trace else { return };
        let before = self.progress.of(&step.name).map_or(0, |noted| noted.requests);
        let code = failure.map(|failure| failure.code.as_str());
        trace.request(&Request { step, duration, before, http_status, code });
    }

    /// The claim ends like this. It is told before it is on disk: a trace shows where time went, and decides nothing.
    pub(super) fn trace_end(&mut self, settling: Option<&Settling>) {
        let Some(trace) = self.trace.take() else { return };
        let end = match settling.map(Settling::ended) {
            Some(Ended::Completed) => RowEnd::Completed,
            Some(Ended::Failed(code)) => RowEnd::Failed(code.as_str()),
            Some(Ended::Released(_)) => RowEnd::Again,
            Some(Ended::TakenOver) | None => RowEnd::TakenOver,
        };
        trace.end(&self.workflow().name, end, self.standing.first_request_at);
    }
}
