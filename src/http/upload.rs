//! `POST` of a CSV: raw or as a form, inflated or gzipped, streamed into [`crate::upload`].
//!
//! The body is read on the async side and checked on a blocking thread, with a bounded queue between. Where the file
//! is refused before its end, the rest is read and thrown away for a while, so that the caller gets to see why.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};
use warp::{
    Filter, Rejection,
    filters::BoxedFilter,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    path::FullPath,
    reply::Response,
};

use super::{
    Context,
    access::Caller,
    answer::{Answer, answer, blocking, json},
    batches::BatchView,
    body::{BodyFeed, body},
    problem::{Problem, ProblemCode},
    with,
};
use crate::{
    intake::{Accepted, Refused, Report},
    objects::ObjectError,
    store::clients::Client,
    upload::{self, Meta, UploadError},
};

/// How long a body may pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long, and how many bytes, the rest of a refused body is read for.
const LINGER: Duration = Duration::from_secs(20);
const LINGER_BYTES: u64 = 1 << 30;
/// The largest `context`.
const LARGEST_CONTEXT: usize = 64 * 1024;
/// The longest file name that is kept, in characters.
const LONGEST_FILE_NAME: usize = 255;
/// When a caller should come again whose upload found no place.
const BUSY_RETRY_SECONDS: u64 = 5;
/// And one whose file found the store out of reach.
const STORE_RETRY_SECONDS: u64 = 10;
/// `context` for raw bodies.
const CONTEXT_HEADER: &str = "x-dripfeed-context";

#[derive(Debug, Deserialize)]
struct Options {
    #[serde(default)]
    validate_only: bool,
    #[serde(default)]
    allow_duplicate: bool,
}

#[derive(Serialize)]
struct Valid {
    valid: bool,
    rows: u64,
    columns: Vec<String>,
    delimiter: String,
    warnings: Vec<String>,
}

impl Valid {
    fn of(accepted: Accepted) -> Self {
        Self {
            valid: true,
            rows: accepted.rows,
            columns: accepted.header.kept().map(|column| column.name.clone()).collect(),
            delimiter: accepted.header.delimiter.to_string(),
            warnings: accepted.warnings,
        }
    }
}

type Body = Pin<Box<dyn Stream<Item = Result<Bytes, BrokenBody>> + Send>>;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
enum BrokenBody {
    #[error("the connection broke")]
    Broken,
    #[error("nothing came for too long")]
    Paused,
}

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let known = context.clone();
    let path = warp::path::full().and_then(move |path: FullPath| {
        let found = known.appliance.config.workflows.values().find(|it| it.upload_path == path.as_str());
        let found = found.map(|workflow| workflow.name.clone());
        async move { found.ok_or_else(warp::reject::not_found) }
    });
    path.and(warp::post())
        .and(with(context))
        .and(warp::header::headers_cloned())
        .and(query())
        .and(warp::body::stream())
        .and_then(|workflow, context, headers, options, stream| {
            let body = limited(stream);
            answer("upload", receive(workflow, context, headers, options, body))
        })
        .boxed()
}

/// A query that is not understood is refused, and one that is not there is empty.
fn query() -> impl Filter<Extract = (Options,), Error = Rejection> + Clone {
    warp::query::<Options>()
}

/// The body as chunks of bytes, none of which may be long in coming.
fn limited<B: Buf>(stream: impl Stream<Item = Result<B, warp::Error>> + Send + 'static) -> Body {
    let chunks = futures_util::stream::unfold(Box::pin(stream), |mut stream| async {
        let next = match timeout(LONGEST_PAUSE, stream.next()).await {
            Err(_) => Err(BrokenBody::Paused),
            Ok(None) => return None,
            Ok(Some(Err(_))) => Err(BrokenBody::Broken),
            Ok(Some(Ok(mut data))) => Ok(data.copy_to_bytes(data.remaining())),
        };
        Some((next, stream))
    });
    Box::pin(chunks)
}

async fn receive(workflow: String, context: Context, headers: HeaderMap, options: Options, body: Body) -> Answer {
    let client = {
        let (appliance, headers) = (context.appliance.clone(), headers.clone());
        blocking(move || Caller::of(&appliance, &headers)?.client()).await?
    };
    let _place = context.uploads.clone().try_acquire_owned().map_err(|_| {
        Problem::new(ProblemCode::Busy, "As many uploads as may run at once are under way.")
            .retry_after(BUSY_RETRY_SECONDS)
    })?;
    let gzip = is_gzip(&headers)?;
    let kind = BodyKind::of(&headers)?;
    let given = header_context(&headers)?;
    let mut incoming = Incoming::start(&context, workflow, &client, options, gzip);
    let said = match kind {
        BodyKind::Csv => incoming.take_raw(body).await,
        BodyKind::Form { boundary } => incoming.take_form(body, boundary).await,
    };
    let said = match said {
        Ok(said) => said,
        Err(untaken) => return incoming.abandon(untaken).await,
    };
    let seen = request_context(&headers);
    incoming.finish(said.context.or(given).unwrap_or_default(), seen, said.file_name).await
}

/// How a body holds its file.
enum BodyKind {
    Csv,
    Form { boundary: String },
}

impl BodyKind {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = value.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("text/csv") {
            return Ok(Self::Csv);
        }
        if essence.eq_ignore_ascii_case("multipart/form-data") {
            let boundary = multer::parse_boundary(value);
            return boundary.map(|boundary| Self::Form { boundary }).map_err(|_| bad("The form has no boundary."));
        }
        Err(Problem::new(
            ProblemCode::UnsupportedMediaType,
            "Send the file as `text/csv`, or as the part `file` of `multipart/form-data`.",
        ))
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Problem> {
    match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip" | b"x-gzip") => Ok(true),
        Some(_) => Err(Problem::new(ProblemCode::UnsupportedMediaType, "`Content-Encoding` is gzip, or left out.")),
    }
}

fn bad(detail: &str) -> Problem {
    Problem::new(ProblemCode::BadRequest, detail)
}

fn header_context(headers: &HeaderMap) -> Result<Option<Map<String, Value>>, Problem> {
    headers.get(CONTEXT_HEADER).map(|value| parse_context(value.as_bytes())).transpose()
}

fn parse_context(json: &[u8]) -> Result<Map<String, Value>, Problem> {
    serde_json::from_slice(json).map_err(|_| bad("`context` is a JSON object."))
}

/// What we know of the request ourselves, kept with the client's context under `request`.
fn request_context(headers: &HeaderMap) -> Value {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    serde_json::json!({ "user_agent": text(header::USER_AGENT) })
}

/// What a form says besides its file.
#[derive(Default)]
struct Said {
    file_name: Option<String>,
    context: Option<Map<String, Value>>,
}

/// Why a body was not taken to its end.
enum Untaken {
    /// The checking side stopped listening: it has refused the file.
    Refused,
    /// The body itself is of no use.
    Unusable(Problem),
}

impl From<Problem> for Untaken {
    fn from(problem: Problem) -> Self {
        Self::Unusable(problem)
    }
}

/// What the checking side answers with.
enum Outcome {
    Batch(Box<BatchView>),
    Valid(Valid),
}

/// An upload under way: the feed of its body, and the thread that checks it.
struct Incoming {
    feed: Option<BodyFeed>,
    meta: oneshot::Sender<Meta>,
    checking: JoinHandle<Result<Outcome, Problem>>,
    client: i64,
    allow_duplicate: bool,
}

impl Incoming {
    fn start(context: &Context, workflow: String, client: &Client, options: Options, gzip: bool) -> Self {
        let (feed, reader) = body();
        let (meta, told) = oneshot::channel::<Meta>();
        let appliance = context.appliance.clone();
        let validate_only = options.validate_only;
        let checking = tokio::task::spawn_blocking(move || {
            let workflow = appliance.config.workflows.get(&workflow).ok_or_else(|| Problem::not_found("workflow"))?;
            if validate_only {
                let accepted = upload::validate(&appliance, workflow, reader, gzip).map_err(refusal)?;
                return Ok(Outcome::Valid(Valid::of(accepted)));
            }
            let received = upload::receive(&appliance, workflow, reader, gzip).map_err(refusal)?;
            let meta = told.blocking_recv().map_err(|_| bad("The upload broke off."))?;
            let batch = received.commit(meta).map_err(refusal)?;
            Ok(Outcome::Batch(Box::new(BatchView::of(&appliance, batch, false)?)))
        });
        Self { feed: Some(feed), meta, checking, client: client.client, allow_duplicate: options.allow_duplicate }
    }

    /// The whole body is the file.
    async fn take_raw(&mut self, mut body: Body) -> Result<Said, Untaken> {
        while let Some(chunk) = body.next().await {
            if !self.push(chunk.map_err(broken)?).await {
                linger(body).await;
                return Err(Untaken::Refused);
            }
        }
        self.end_of_file().await;
        Ok(Said::default())
    }

    /// The part `file` of a form is the file; `context` may stand before or behind it.
    async fn take_form(&mut self, body: Body, boundary: String) -> Result<Said, Untaken> {
        let mut form = multer::Multipart::new(body, boundary);
        let mut said = Said::default();
        let mut seen_file = false;
        while let Some(mut part) = form.next_field().await.map_err(|_| bad("The form is broken."))? {
            match part.name() {
                Some("file") if seen_file => return Err(bad("The form has two parts `file`.").into()),
                Some("file") => {
                    seen_file = true;
                    said.file_name = part.file_name().map(|name| name.chars().take(LONGEST_FILE_NAME).collect());
                    while let Some(chunk) = part.chunk().await.map_err(|_| bad("The form is broken."))? {
                        if !self.push(chunk).await {
                            linger(part.map(|chunk| chunk.map_err(|_| BrokenBody::Broken))).await;
                            return Err(Untaken::Refused);
                        }
                    }
                    self.end_of_file().await;
                }
                Some("context") => {
                    let mut text = Vec::new();
                    while let Some(chunk) = part.chunk().await.map_err(|_| bad("The form is broken."))? {
                        if text.len() + chunk.len() > LARGEST_CONTEXT {
                            return Err(Problem::new(ProblemCode::TooLarge, "`context` is too large.").into());
                        }
                        text.extend_from_slice(&chunk);
                    }
                    said.context = Some(parse_context(&text)?);
                }
                _ => return Err(bad("The form has a part that is neither `file` nor `context`.").into()),
            }
        }
        if seen_file { Ok(said) } else { Err(bad("The form has no part `file`.").into()) }
    }

    async fn push(&self, chunk: Bytes) -> bool {
        match &self.feed {
            Some(feed) => feed.push(chunk).await,
            None => false,
        }
    }

    async fn end_of_file(&mut self) {
        if let Some(feed) = self.feed.take() {
            feed.finish().await;
        }
    }

    /// The body was whole: let the checking side finish with what else is known.
    async fn finish(self, mut given: Map<String, Value>, seen: Value, file_name: Option<String>) -> Answer {
        given.insert("request".to_owned(), seen);
        let meta = Meta {
            client: self.client,
            file_name,
            context: Value::Object(given),
            allow_duplicate: self.allow_duplicate,
        };
        // The checking side does not listen any more where it has refused the file.
        let _ = self.meta.send(meta);
        match joined(self.checking).await? {
            Outcome::Valid(valid) => json(StatusCode::OK, &valid),
            Outcome::Batch(batch) => {
                let mut response = json(StatusCode::ACCEPTED, &batch)?;
                if let Ok(location) = HeaderValue::from_str(batch.address()) {
                    response.headers_mut().insert(header::LOCATION, location);
                }
                Ok(response)
            }
        }
    }

    /// The body was not taken to its end. Where the checking side stopped first, its reason is the one to tell; it may
    /// come late, because what was stored is cleared away before.
    async fn abandon(self, untaken: Untaken) -> Answer {
        let stopped_first = matches!(untaken, Untaken::Refused) || self.checking.is_finished();
        drop((self.feed, self.meta));
        match (joined(self.checking).await, untaken) {
            (Err(refused), _) if stopped_first => Err(refused),
            (_, Untaken::Unusable(problem)) => Err(problem),
            (_, Untaken::Refused) => Err(bad("The body goes on behind the end of the file.")),
        }
    }
}

async fn joined(checking: JoinHandle<Result<Outcome, Problem>>) -> Result<Outcome, Problem> {
    checking.await.unwrap_or_else(|error| {
        tracing::error!(%error, "an upload ended abnormally");
        Err(Problem::internal())
    })
}

/// Reads and forgets the rest of a body, within limits.
async fn linger(mut rest: impl Stream<Item = Result<Bytes, BrokenBody>> + Unpin) {
    let until = Instant::now() + LINGER;
    let mut bytes = 0;
    while let Some(Ok(chunk)) = rest.next().await {
        bytes += chunk.len() as u64;
        if bytes > LINGER_BYTES || Instant::now() > until {
            return;
        }
    }
}

fn broken(error: BrokenBody) -> Problem {
    match error {
        BrokenBody::Broken => bad("The upload broke off."),
        BrokenBody::Paused => Problem::new(ProblemCode::RequestTimeout, "The upload paused for too long."),
    }
}

fn refusal(error: UploadError) -> Problem {
    match error {
        UploadError::Refused(Refused::Invalid(report)) => invalid_file(&report),
        UploadError::Refused(Refused::TooLarge { max_bytes }) => Problem::new(
            ProblemCode::TooLarge,
            format!("The file has more than {max_bytes} bytes (inflated). Split it; nothing of it was kept."),
        ),
        UploadError::Refused(Refused::Read(_)) => bad("The upload broke off; nothing of it was kept."),
        UploadError::Refused(Refused::Tee(error) | Refused::Spool(error)) => not_stored(&error.into()),
        UploadError::Objects(error) => not_stored(&error),
        UploadError::Workflow => Problem::not_found("workflow"),
        UploadError::Store(error) => error.into(),
        UploadError::Duplicate(earlier) => Problem::new(
            ProblemCode::DuplicateFile,
            format!("The same file was uploaded before, as {earlier}. Send `allow_duplicate=true` if it is meant."),
        )
        .with("batch", earlier),
    }
}

fn invalid_file(report: &Report) -> Problem {
    let (count, told) = (report.count, report.findings.len());
    let detail = match count {
        1 => "The file has one error; nothing of it was kept.".to_owned(),
        _ if count > told as u64 => {
            format!("The file has {count} errors, the first {told} are listed; nothing of it was kept.")
        }
        _ => format!("The file has {count} errors; nothing of it was kept."),
    };
    Problem::new(ProblemCode::InvalidFile, detail).with("errors", &report.findings).with("error_count", count)
}

fn not_stored(error: &ObjectError) -> Problem {
    tracing::error!(%error, "an upload could not be stored");
    if matches!(error, ObjectError::Full { .. }) {
        return Problem::disk_full();
    }
    Problem::new(
        ProblemCode::Unavailable,
        "The place where files are stored is out of reach; nothing was kept. Upload the file again in a while.",
    )
    .retry_after(STORE_RETRY_SECONDS)
}
