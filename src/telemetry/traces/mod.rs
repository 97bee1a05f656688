//! A row's way as a trace, told to a collector by OpenTelemetry's protocol; off unless `[traces]` names one.
//!
//! Spans are made of what is known when a claim ends, with explicit times, and not of `tracing`'s spans: nothing is entered
//! and left on the way of a row, and where traces are off, or a row is not sampled, all this costs a look at an `Option`.
//!
//! What a row is called in traces is derived from its batch and number, so that every claim of it, by whichever process
//! and however late, is in one trace; and whether it is sampled is derived from that name, so that a row is told whole or
//! not at all. Its trace: `row` from the first request to its end, below it each `claim` that sent something, below that
//! each request. A batch has a trace of its own, of `upload` and `extraction`, which those of its rows link to.
//!
//! Attributes are ids, names of the configuration, codes and numbers; no value of a row, and no address that holds one.

mod row;
mod sender;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{Link, SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use sha2::{Digest, Sha256};

pub use self::row::{Request, RowEnd, RowTrace};
use self::sender::Sender;
use crate::{
    clock::Clock,
    config::Config,
    model::{BatchId, Timestamp},
};

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// What is configured cannot be sent to.
    #[error("traces.{key}: {problem}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no thread to send with.
    #[error("no thread for traces: {0}")]
    Thread(#[from] io::Error),
}

/// The way out for spans.
pub struct Traces {
    sender: Sender,
    sampled_below: u64,
    /// Host and port of each dependency.
    servers: BTreeMap<String, (String, u16)>,
    scope: InstrumentationScope,
    clock: Clock,
}

/// A span, before it is one.
struct Sketch {
    trace: TraceId,
    id: SpanId,
    parent: SpanId,
    kind: SpanKind,
    name: Cow<'static, str>,
    /// In nanoseconds since 1970.
    begun: u64,
    lasted: Duration,
    attributes: Vec<KeyValue>,
    /// In a word, where something went wrong.
    error: Option<String>,
}

impl Traces {
    /// Begins to send, if the configuration says whereto.
    pub fn start(config: &Config, clock: &Clock) -> Result<Option<Self>, TracesError> {
        let Some(endpoint) = &config.traces.endpoint else { return Ok(None) };
        let server = |base_url: &str| {
            let url: ureq::http::Uri = base_url.parse().ok()?;
            let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
            Some((url.host()?.to_owned(), port))
        };
        let servers = config.dependencies.iter();
        Ok(Some(Self {
            sender: Sender::start(endpoint, &config.traces)?,
            sampled_below: sampled_below(config.traces.sample),
            servers: servers.filter_map(|(name, it)| Some((name.clone(), server(&it.base_url)?))).collect(),
            scope: InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
            clock: clock.clone(),
        }))
    }

    /// The trace of a row whose claim begins now, if it is one of those that are told.
    pub fn row(self: &Arc<Self>, batch: BatchId, number: u32) -> Option<RowTrace> {
        let trace = trace_id(&format!("row {batch}/{number}"));
        is_sampled(trace, self.sampled_below).then(|| RowTrace::new(self.clone(), trace, batch, number))
    }

    /// A batch was accepted, whose upload began then.
    pub fn upload(&self, batch: BatchId, workflow: &str, begun: Timestamp, rows: u32) {
        let (trace, id) = of_upload(batch);
        let mut attributes = of_batch(batch, workflow);
        attributes.push(KeyValue::new("dripfeed.rows", i64::from(rows)));
        self.batch_span(trace, id, SpanId::INVALID, "upload", begun, attributes, None);
    }

    /// The extraction of a batch, which began then, has ended: `queued`, or not.
    pub fn extraction(&self, batch: BatchId, workflow: &str, begun: Timestamp, outcome: &'static str) {
        let (trace, parent) = of_upload(batch);
        let error = (outcome != "queued").then(|| outcome.to_owned());
        self.batch_span(trace, span_id(), parent, "extraction", begun, of_batch(batch, workflow), error);
    }

    #[allow(clippy::too_many_arguments, reason = "all of them differ")]
    fn batch_span(
        &self,
        trace: TraceId,
        id: SpanId,
        parent: SpanId,
        name: &'static str,
        begun: Timestamp,
        attributes: Vec<KeyValue>,
        error: Option<String>,
    ) {
        let lasted = self.clock.now().since(begun);
        let (kind, name, begun) = (SpanKind::Internal, name.into(), nanos(begun));
        let sketch = Sketch { trace, id, parent, kind, name, begun, lasted, attributes, error };
        self.sender.send(vec![self.finished(sketch, None)]);
    }

    /// Sends what waits, if that can be done within this time.
    pub fn flush(&self, within: Duration) {
        self.sender.flush(within);
    }

    fn finished(&self, sketch: Sketch, link: Option<SpanContext>) -> SpanData {
        let Sketch { trace, id, parent, kind, name, begun, lasted, mut attributes, error } = sketch;
        let start_time = UNIX_EPOCH + Duration::from_nanos(begun);
        let mut links = SpanLinks::default();
        links.links.extend(link.map(|context| Link::new(context, Vec::new(), 0)));
        attributes.extend(error.clone().map(|error| KeyValue::new("error.type", error)));
        SpanData {
            span_context: context(trace, id),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: kind,
            name,
            start_time,
            end_time: start_time + lasted,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// Nanoseconds since 1970.
fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.0).unwrap_or(0).saturating_mul(1_000_000)
}

fn context(trace: TraceId, span: SpanId) -> SpanContext {
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
}

/// What every span of a batch says.
fn of_batch(batch: BatchId, workflow: &str) -> Vec<KeyValue> {
    vec![KeyValue::new("dripfeed.batch.id", batch.to_string()), KeyValue::new("dripfeed.workflow", workflow.to_owned())]
}

/// The trace of a batch, and the span of its upload.
fn of_upload(batch: BatchId) -> (TraceId, SpanId) {
    let trace = trace_id(&format!("batch {batch}"));
    (trace, span_id_of(trace, 0))
}

fn trace_id(what: &str) -> TraceId {
    let hash: [u8; 32] = Sha256::digest(what).into();
    TraceId::from_bytes(first(&hash))
}

/// A span that is known by its trace and this number.
fn span_id_of(trace: TraceId, number: u64) -> SpanId {
    let hash: [u8; 32] = Sha256::new_with_prefix(trace.to_bytes()).chain_update(number.to_be_bytes()).finalize().into();
    SpanId::from_bytes(first(&hash))
}

/// A span that nobody has to know.
fn span_id() -> SpanId {
    SpanId::from_bytes(rand::random())
}

fn first<const LENGTH: usize>(hash: &[u8; 32]) -> [u8; LENGTH] {
    std::array::from_fn(|at| hash[at])
}

/// As OpenTelemetry's `TraceIdRatioBased` decides, so that a collector that samples after us by the same share keeps the
/// same rows.
fn is_sampled(trace: TraceId, below: u64) -> bool {
    let low = u128::from_be_bytes(trace.to_bytes()) as u64;
    low >> 1 < below
}

fn sampled_below(share: f64) -> u64 {
    (share * (1_u64 << 63) as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_rows_is_sampled_and_always_the_same_ones() {
        let batch = BatchId::random();
        let sampled = |share: f64| -> Vec<u32> {
            let is_told = |number: &u32| is_sampled(trace_id(&format!("row {batch}/{number}")), sampled_below(share));
            (1..=20_000).filter(is_told).collect()
        };
        assert_eq!(sampled(1.0).len(), 20_000);
        let (few, more) = (sampled(0.01), sampled(0.1));
        assert!(
            (120..=280).contains(&few.len()) && (1_700..=2_300).contains(&more.len()),
            "{} {}",
            few.len(),
            more.len()
        );
        assert!(few.iter().all(|row| more.contains(row)) && few == sampled(0.01));
    }

    #[test]
    fn names_differ_where_rows_or_batches_do() {
        let (one, other) = (BatchId::random(), BatchId::random());
        assert_ne!(of_upload(one), of_upload(other));
        assert_ne!(trace_id(&format!("row {one}/1")), trace_id(&format!("row {one}/2")));
        let trace = trace_id("row");
        assert_ne!(span_id_of(trace, 0), span_id_of(trace, 1));
    }
}
