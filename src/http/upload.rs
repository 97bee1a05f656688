//! `POST` of a CSV: raw or as a form, inflated or gzipped, streamed into [`crate::upload`].
//!
//! The body is read on the async side and checked on a blocking thread, with a bounded queue between. Where the file
//! is refused before its end, the rest is read and thrown away for a while, so that the caller gets to see why.

use bytes::Bytes;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::{sync::oneshot, task::JoinHandle};
use warp::{
    Filter,
    filters::BoxedFilter,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    path::FullPath,
    reply::Response,
};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    batch_view::BatchView,
    body::{Body, BodyFeed, BrokenBody, body, limited, linger},
    form::{Form, Part},
    problem::{Problem, ProblemCode},
    request::{Request, request},
};
use crate::{
    intake::{Accepted, Refused, Report},
    model::nesting::{DEEPEST_JSON, is_too_deep},
    objects::ObjectError,
    store::clients::Client,
    upload::{self, Meta, UploadError},
};

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
#[serde(deny_unknown_fields)]
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

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let known = context.clone();
    let path = warp::path::full().and_then(move |path: FullPath| {
        let found = known.appliance.config.workflows.values().find(|it| it.upload_path == path.as_str());
        let found = found.map(|workflow| workflow.name.clone());
        async move { found.ok_or_else(warp::reject::not_found) }
    });
    path.and(warp::post())
        .and(request(&context))
        .and(warp::body::stream())
        .and_then(|workflow, request, stream| answer("upload", receive(workflow, request, limited(stream))))
        .boxed()
}

async fn receive(workflow: String, request: Request, mut body: Body) -> Answer {
    let client = {
        let request = request.clone();
        blocking(move || request.caller()?.client()).await?
    };
    let options = request.query::<Options>()?;
    let (context, headers) = (&request.context, &request.headers);
    let _place = context.uploads.clone().try_acquire_owned().map_err(|_| {
        Problem::new(ProblemCode::Busy, "As many uploads as may run at once are under way.")
            .retry_after(BUSY_RETRY_SECONDS)
    })?;
    let gzip = is_gzip(headers)?;
    let kind = BodyKind::of(headers)?;
    let given = header_context(headers)?;
    let mut incoming = Incoming::start(context, workflow, &client, options, gzip);
    let said = match kind {
        BodyKind::Csv => incoming.take_raw(&mut body).await,
        BodyKind::Form { boundary } => incoming.take_form(&mut body, boundary).await,
    };
    let said = match said {
        Ok(said) => said,
        Err(stopped) => {
            linger(body).await;
            return incoming.abandon(stopped).await;
        }
    };
    let seen = request_context(headers);
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
    match serde_json::from_slice(json) {
        Ok(context @ Value::Object(_)) if is_too_deep(&context) => {
            Err(bad(&format!("`context` has more than {DEEPEST_JSON} levels of objects and lists.")))
        }
        Ok(Value::Object(context)) => Ok(context),
        _ => Err(bad("`context` is a JSON object.")),
    }
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
enum Stopped {
    /// The checking side has heard enough, and knows why.
    Refused,
    /// It cannot be used.
    Unusable(Problem),
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self::Unusable(problem)
    }
}

impl From<BrokenBody> for Stopped {
    fn from(error: BrokenBody) -> Self {
        Self::Unusable(broken(error))
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
    async fn take_raw(&mut self, body: &mut Body) -> Result<Said, Stopped> {
        while let Some(chunk) = body.next().await {
            self.push(chunk?).await?;
        }
        self.end_of_file().await;
        Ok(Said::default())
    }

    /// The part `file` of a form is the file; `context` may stand before or behind it.
    async fn take_form(&mut self, body: &mut Body, boundary: String) -> Result<Said, Stopped> {
        let mut form = Form::new(body, boundary);
        let mut said = Said::default();
        while let Some(mut part) = form.next_part().await? {
            match part.name() {
                Some("file") if self.feed.is_none() => return Err(bad("The form has two parts `file`.").into()),
                Some("file") => {
                    said.file_name = part.file_name().map(|name| name.chars().take(LONGEST_FILE_NAME).collect());
                    while let Some(chunk) = part.chunk().await? {
                        self.push(chunk).await?;
                    }
                    self.end_of_file().await;
                }
                Some("context") => said.context = Some(parse_context(&small(&mut part).await?)?),
                _ => return Err(bad("The form has a part that is neither `file` nor `context`.").into()),
            }
        }
        if self.feed.is_none() { Ok(said) } else { Err(bad("The form has no part `file`.").into()) }
    }

    async fn push(&self, chunk: Bytes) -> Result<(), Stopped> {
        match &self.feed {
            Some(feed) if feed.push(chunk).await => Ok(()),
            _ => Err(Stopped::Refused),
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
                if let Ok(location) = HeaderValue::from_str(&format!("/v2/batches/x")) {
                    response.headers_mut().insert(header::LOCATION, location);
                }
                Ok(response)
            }
        }
    }

    /// The body was not taken to its end. Where the checking side stopped first, its reason is the one to tell; it may
    /// come late, because what was stored is cleared away before.
    async fn abandon(self, stopped: Stopped) -> Answer {
        let checked_first = matches!(stopped, Stopped::Refused) || self.checking.is_finished();
        drop((self.feed, self.meta));
        match (joined(self.checking).await, stopped) {
            (Err(refused), _) if checked_first => Err(refused),
            (_, Stopped::Unusable(problem)) => Err(problem),
            (_, Stopped::Refused) => Err(bad("The body goes on behind the end of the file.")),
        }
    }
}

/// The whole content of the part `context`.
async fn small(part: &mut Part<'_>) -> Result<Vec<u8>, Stopped> {
    let mut text = Vec::new();
    while let Some(chunk) = part.chunk().await? {
        if text.len() + chunk.len() > LARGEST_CONTEXT {
            return Err(Problem::new(ProblemCode::TooLarge, "`context` is too large.").into());
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

async fn joined(checking: JoinHandle<Result<Outcome, Problem>>) -> Result<Outcome, Problem> {
    checking.await.unwrap_or_else(|error| {
        tracing::error!(%error, "an upload ended abnormally");
        Err(Problem::internal())
    })
}

fn broken(error: BrokenBody) -> Problem {
    match error {
        BrokenBody::Broken => bad("The upload broke off."),
        BrokenBody::Form => bad("The form is broken."),
        BrokenBody::Frame => Problem::new(ProblemCode::TooLarge, "The form holds too much besides its parts' content."),
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
