//! The trace of one row, gathered while a claim of it lasts.

use std::{sync::Arc, time::Duration};

use opentelemetry::{KeyValue, SpanId, TraceId, trace::SpanKind};
use opentelemetry_sdk::trace::SpanData;

use super::{Sketch, Traces, context, nanos, of_batch, of_upload, span_id, span_id_of};
use crate::model::{BatchId, Step, Timestamp};

/// How the claim of a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowEnd {
    /// The row is completed.
    Completed,
    /// It failed for good, with this code.
    Failed(&'static str),
    /// It will be tried again.
    Again,
    /// Somebody else has it.
    TakenOver,
}

/// A request that has ended.
pub struct Request<'a> {
    /// Its step.
    pub step: &'a Step,
    /// From its first byte until its answer was whole, which is now.
    pub duration: Duration,
    /// How many requests of this step left before it.
    pub before: u32,
    /// Its answer's status.
    pub http_status: Option<u16>,
    /// What its row would fail with.
    pub code: Option<&'static str>,
}

/// What is told of a row when its claim ends.
pub struct RowTrace {
    traces: Arc<Traces>,
    trace: TraceId,
    batch: BatchId,
    number: u32,
    claim: SpanId,
    /// On both clocks: a millisecond holds several requests, whose order is to be seen.
    begun: u64,
    begun_steady: i64,
    requests: Vec<SpanData>,
}

impl RowTrace {
    pub(super) fn new(traces: Arc<Traces>, trace: TraceId, batch: BatchId, number: u32) -> Self {
        let (begun, begun_steady) = (nanos(traces.clock.now()), traces.clock.steady());
        Self { traces, trace, batch, number, claim: span_id(), begun, begun_steady, requests: Vec::new() }
    }

    /// Nanoseconds since 1970.
    fn now(&self) -> u64 {
        let lasted = self.traces.clock.steady().saturating_sub(self.begun_steady);
        self.begun + u64::try_from(lasted).unwrap_or(0)
    }

    /// A request has ended. Named and described by the semantic conventions for HTTP clients.
    pub fn request(&mut self, request: &Request<'_>) {
        let Request { step, duration, before, http_status, code } = *request;
        let method = step.method.as_str();
        let mut attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("url.template", step.path.clone()),
            KeyValue::new("dripfeed.step", step.name.clone()),
            KeyValue::new("dripfeed.dependency", step.dependency.clone()),
        ];
        if let Some((host, port)) = self.traces.servers.get(&step.dependency) {
            attributes.push(KeyValue::new("server.address", host.clone()));
            attributes.push(KeyValue::new("server.port", i64::from(*port)));
        }
        attributes.extend(http_status.map(|status| KeyValue::new("http.response.status_code", i64::from(status))));
        if before > 0 {
            attributes.push(KeyValue::new("http.request.resend_count", i64::from(before)));
        }
        let error = match http_status {
            Some(status) if status >= 400 => Some(status.to_string()),
            _ => code.map(str::to_owned),
        };
        let sketch = Sketch {
            trace: self.trace,
            id: span_id(),
            parent: self.claim,
            kind: SpanKind::Client,
            name: format!("{method} {}", step.path).into(),
            begun: self.now().saturating_sub(duration.as_nanos() as u64),
            lasted: duration,
            attributes,
            error,
        };
        self.requests.push(self.traces.finished(sketch, None));
    }

    /// The claim ends; with it the row, or not. `life` is when the first request of the row left: it names the span of
    /// the row, which is told when it ends, after all that is below it. A row that somebody retries begins another one.
    pub fn end(mut self, workflow: &str, end: RowEnd, life: Option<Timestamp>) {
        let is_over = matches!(end, RowEnd::Completed | RowEnd::Failed(_));
        if self.requests.is_empty() && !is_over {
            return;
        }
        let now = self.now();
        let life = life.map_or(self.begun, nanos);
        let row = span_id_of(self.trace, life);
        let error = match end {
            RowEnd::Failed(code) => Some(code.to_owned()),
            _ => None,
        };
        let mut spans = std::mem::take(&mut self.requests);
        let sketch = |id, parent, name: &'static str, begun: u64| {
            let mut attributes = of_batch(self.batch, workflow);
            attributes.push(KeyValue::new("dripfeed.row", i64::from(self.number)));
            let (trace, kind, name, error) = (self.trace, SpanKind::Internal, name.into(), error.clone());
            Sketch {
                trace,
                id,
                parent,
                kind,
                name,
                begun,
                lasted: Duration::from_nanos(now.saturating_sub(begun)),
                attributes,
                error,
            }
        };
        spans.push(self.traces.finished(sketch(self.claim, row, "claim", self.begun), None));
        if is_over {
            let (trace, upload) = of_upload(self.batch);
            let whole = sketch(row, SpanId::INVALID, "row", life.min(self.begun));
            spans.push(self.traces.finished(whole, Some(context(trace, upload))));
        }
        self.traces.sender.send(spans);
    }
}
