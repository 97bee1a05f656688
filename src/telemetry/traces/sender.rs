//! The thread that sends spans, and the queue in front of it.
//!
//! Nothing that works waits for it: where the queue is full, spans are lost and counted. A collector that does not answer
//! costs the spans and one line in the log until it is back.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter},
};
use tokio::runtime::Runtime;
use ureq::{
    Agent, Error,
    http::{HeaderMap, HeaderName, HeaderValue},
};

use super::TracesError;
use crate::config::{self, Secret};

/// Claims whose spans may wait, a handful of spans each; more are lost.
const QUEUE: usize = 1_024;
/// Spans of one request, and how long the first of them waits for others.
const GROUP: usize = 512;
const GATHER: Duration = Duration::from_secs(1);
/// For one request, and for all tries of it together.
const TIMEOUT: Duration = Duration::from_secs(5);
const RETRIED_FOR: Duration = Duration::from_secs(10);
/// Of an answer, which says nothing but how many spans were taken.
const LARGEST_ANSWER: u64 = 64 * 1024;
/// How often it is said that spans are made faster than they are sent.
const TOLD_EVERY: Duration = Duration::from_secs(60);

enum Message {
    Spans(Vec<SpanData>),
    /// Answered when everything in front of it was sent, or lost.
    Flush(SyncSender<()>),
}

/// The queue's near end.
pub(super) struct Sender {
    queue: SyncSender<Message>,
    crowded_out: Arc<AtomicU64>,
}

impl Sender {
    pub(super) fn start(endpoint: &str, settings: &config::Traces) -> Result<Self, TracesError> {
        let trouble = Trouble::default();
        let client = Client { agent: agent(), headers: headers(&settings.headers)?, trouble: trouble.clone() };
        let exporter = OtlpExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(RETRIED_FOR)
            .build();
        let mut exporter = exporter
            .map_err(|_| TracesError::Setting { key: "endpoint", problem: "it cannot be sent to".to_owned() })?;
        exporter.set_resource(&Resource::builder_empty().with_service_name(settings.service_name.clone()).build());
        let (queue, messages) = sync_channel(QUEUE);
        let crowded_out = Arc::new(AtomicU64::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let mut sending = Sending {
            messages,
            exporter,
            runtime,
            trouble,
            crowded_out: crowded_out.clone(),
            lost: 0,
            is_down: false,
            told_at: None,
        };
        std::thread::Builder::new().name("traces".into()).spawn(move || sending.run())?;
        Ok(Self { queue, crowded_out })
    }

    pub(super) fn send(&self, spans: Vec<SpanData>) {
        let count = spans.len() as u64;
        if self.queue.try_send(Message::Spans(spans)).is_err() {
            self.crowded_out.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(super) fn flush(&self, within: Duration) {
        let (done, flushed) = sync_channel(1);
        // A queue that is full will not be empty in time.
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = flushed.recv_timeout(within);
        }
    }
}

/// The queue's far end.
struct Sending {
    messages: Receiver<Message>,
    exporter: OtlpExporter,
    runtime: Runtime,
    trouble: Trouble,
    crowded_out: Arc<AtomicU64>,
    /// Spans since the collector was heard from.
    lost: u64,
    is_down: bool,
    told_at: Option<Instant>,
}

impl Sending {
    fn run(&mut self) {
        while let Ok(first) = self.messages.recv() {
            let deadline = Instant::now() + GATHER;
            let (mut spans, mut flush) = (Vec::new(), None);
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Spans(more) => spans.extend(more),
                    Message::Flush(done) => flush = Some(done),
                }
                if flush.is_none() && spans.len() < GROUP {
                    next = self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok();
                }
            }
            if !spans.is_empty() {
                self.send(spans);
            }
            if let Some(done) = flush {
                // Whoever waited for it may have gone.
                let _ = done.send(());
            }
        }
    }

    fn send(&mut self, spans: Vec<SpanData>) {
        let count = spans.len() as u64;
        self.lost += self.crowded_out.swap(0, Ordering::Relaxed);
        match self.runtime.block_on(self.exporter.export(spans)) {
            Err(_) => {
                self.lost += count;
                if !std::mem::replace(&mut self.is_down, true) {
                    let reason = self.trouble.what();
                    tracing::warn!(
                        event = "traces.not_sent",
                        reason,
                        "the collector takes no spans: they are lost until it does"
                    );
                }
            }
            Ok(()) if std::mem::take(&mut self.is_down) => {
                let lost = std::mem::take(&mut self.lost);
                tracing::info!(event = "traces.sent_again", lost, "the collector takes spans again");
            }
            Ok(()) if self.lost > 0 && self.told_at.is_none_or(|told| told.elapsed() >= TOLD_EVERY) => {
                let lost = std::mem::take(&mut self.lost);
                self.told_at = Some(Instant::now());
                tracing::warn!(
                    event = "traces.crowded_out",
                    lost,
                    "spans are made faster than they are sent: sample fewer"
                );
            }
            Ok(()) => {}
        }
    }
}

fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .timeout_global(Some(TIMEOUT))
        .user_agent(concat!("dripfeed/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

fn headers(settings: &BTreeMap<String, Secret>) -> Result<HeaderMap, TracesError> {
    let header = |(name, value): (&String, &Secret)| {
        let name: HeaderName = name.parse().ok()?;
        let mut value = HeaderValue::from_str(value.expose()).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    };
    let headers = settings.iter().map(|setting| {
        let wrong =
            || TracesError::Setting { key: "headers", problem: format!("`{}` cannot be sent as a header", setting.0) };
        header(setting).ok_or_else(wrong)
    });
    headers.collect()
}

/// What stood in the way of the last request, in our own words: the exporter's quote the address and the answer.
#[derive(Clone, Default)]
struct Trouble(Arc<Mutex<String>>);

impl Trouble {
    fn note(&self, what: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    fn what(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How the exporter sends: it blocks, which is right on a thread that does nothing else.
struct Client {
    agent: Agent,
    headers: HeaderMap,
    trouble: Trouble,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut parts, body) = request.into_parts();
        parts.headers.extend(self.headers.clone());
        let answer = self.agent.run(Request::from_parts(parts, body.to_vec()));
        let mut answer = answer.inspect_err(|error| self.trouble.note(told(error)))?;
        if !answer.status().is_success() {
            self.trouble.note(format!("the collector answers HTTP {}", answer.status().as_u16()));
        }
        let body = answer.body_mut().with_config().limit(LARGEST_ANSWER).read_to_vec()?;
        Ok(answer.map(|_| body.into()))
    }
}

/// Without the address, which some of ureq's errors quote.
fn told(error: &Error) -> &'static str {
    match error {
        Error::Timeout(_) => "no answer in time",
        Error::HostNotFound => "the host was not found",
        Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => "nobody listens there",
        _ => "the connection failed",
    }
}
