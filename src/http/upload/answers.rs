//! What an upload is answered.

use schemars::JsonSchema;
use serde::Serialize;
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{all_errors, error_files::ErrorPlace, head::bad};
use crate::{
    http::{
        access::revoked,
        answer::{Answer, json},
        problem::{Problem, ProblemCode},
        request::Request,
    },
    intake::{self, Refused, Report},
    model::{BatchId, quota::Exceeded},
    objects::ObjectError,
    upload::{
        UploadError,
        error_file::{ErrorFile, ErrorLines},
    },
};

/// When a caller should come again whose file found the store out of reach.
const STORE_RETRY_SECONDS: u64 = 10;
/// And one whose key is in use.
const KEY_RETRY_SECONDS: u64 = 5;
/// Says that an answer was given before.
const REPLAYED_HEADER: &str = "idempotency-replayed";

/// What an upload came to.
pub(super) enum Outcome {
    Batch(Accepted),
    Valid(Valid),
}

/// An upload that is a batch.
pub(super) struct Accepted {
    pub id: BatchId,
    /// The batch, as it was told first.
    pub body: Vec<u8>,
    pub replayed: bool,
}

/// The answer to `?validate_only=true` for a good file.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::http) struct Valid {
    /// Always true: a bad file gets the problem that the upload would get.
    valid: bool,
    /// Valid records.
    rows: u64,
    /// The columns that are kept, by the names that the file gives them.
    columns: Vec<String>,
    /// What separates its fields: `comma`, `semicolon` or `tab`.
    delimiter: String,
    /// What a person might want to know, in sentences.
    warnings: Vec<String>,
}

/// Why an upload came to nothing.
pub(super) enum Refusal {
    Problem(Problem),
    /// Its findings, all of them.
    Errors(Box<ErrorLines>),
    /// The file was good, and what else there should have been never came.
    Untold,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl Valid {
    pub(super) fn of(accepted: intake::Accepted, earlier: Option<BatchId>) -> Self {
        let mut warnings = accepted.warnings;
        warnings.extend(earlier.map(duplicate));
        Self {
            valid: true,
            rows: accepted.rows,
            columns: accepted.header.kept().map(|column| column.name.clone()).collect(),
            delimiter: accepted.header.delimiter.to_string(),
            warnings,
        }
    }
}

impl Outcome {
    pub(super) fn answer(self) -> Answer {
        match self {
            Self::Valid(valid) => json(StatusCode::OK, &valid),
            Self::Batch(accepted) => Ok(accepted.answer()),
        }
    }
}

impl Accepted {
    fn answer(self) -> Response {
        let mut response = Response::new(self.body.into());
        *response.status_mut() = StatusCode::ACCEPTED;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(location) = HeaderValue::from_str(&format!("/v2/batches/{}", self.id)) {
            headers.insert(header::LOCATION, location);
        }
        if self.replayed {
            headers.insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
        }
        response
    }
}

impl Refusal {
    /// `place` is held as long as a file of errors is being sent to whoever sent this request.
    pub(super) fn answer(self, place: Option<ErrorPlace>, request: &Request) -> Answer {
        match self {
            Self::Problem(problem) => Err(problem),
            Self::Untold => Err(bad("The upload broke off.")),
            Self::Errors(lines) => Ok(all_errors::answer(*lines, place, request.right()?)),
        }
    }
}

/// Why an upload failed, for the caller: with all errors of the file where they were written aside.
pub(super) fn refusal(error: UploadError, errors: Option<ErrorFile>) -> Refusal {
    if let UploadError::Refused(Refused::Invalid(report)) = &error {
        let code = report.findings.first().map(|finding| finding.code.as_str());
        tracing::info!(event = "upload.refused", errors = report.count, code, "a file was refused");
    }
    let problem = match (error, errors) {
        (UploadError::Refused(Refused::Invalid(_)), Some(errors)) => match errors.read() {
            Ok(lines) => return Refusal::Errors(Box::new(lines)),
            Err(error) => not_stored(&error.into()),
        },
        (UploadError::Refused(Refused::Invalid(report)), None) => invalid_file(&report),
        (UploadError::Refused(Refused::TooLarge { max_bytes }), _) => too_large(max_bytes),
        (UploadError::Refused(Refused::Read(_)), _) => bad("The upload broke off; nothing of it was kept."),
        (UploadError::Refused(Refused::Tee(error) | Refused::Spool(error)), _) => not_stored(&error.into()),
        (UploadError::Objects(error), _) => not_stored(&error),
        (UploadError::NoRoom(short), _) => no_room(&short),
        (UploadError::Revoked, _) => revoked(),
        (UploadError::Quota(exceeded), _) => quota_exceeded(exceeded),
        (UploadError::Workflow, _) => Problem::not_found("workflow"),
        (UploadError::Store(error), _) => error.into(),
        (UploadError::Duplicate(earlier), _) => {
            Problem::new(ProblemCode::DuplicateFile, duplicate(earlier)).with("batch", earlier)
        }
        (UploadError::KeyReused, _) => Problem::new(
            ProblemCode::IdempotencyKeyReused,
            "This `Idempotency-Key` came first with another file or context. Take a new one for a new upload.",
        ),
        (UploadError::KeyInUse, _) => key_in_use(),
        (UploadError::Remembered(error), _) => {
            tracing::error!(event = "upload.answer_unreadable", %error, "the first answer to an upload cannot be read");
            Problem::internal()
        }
    };
    problem.into()
}

/// What an upload came to, in a word to count it by.
pub(super) fn outcome(answered: &Answer) -> &'static str {
    match answered {
        Err(problem) => problem.code(),
        Ok(response) if response.headers().contains_key(REPLAYED_HEADER) => "replayed",
        Ok(response) if response.status() == StatusCode::ACCEPTED => "accepted",
        Ok(response) if response.status() == StatusCode::OK => "validated",
        // The file of all errors.
        Ok(_) => ProblemCode::InvalidFile.as_str(),
    }
}

pub(super) fn key_in_use() -> Problem {
    Problem::new(
        ProblemCode::IdempotencyKeyInUse,
        "An upload with this `Idempotency-Key` is under way. Send it again once that one has ended.",
    )
    .retry_after(KEY_RETRY_SECONDS)
}

fn duplicate(earlier: BatchId) -> String {
    format!("The same file was uploaded before, as {earlier}. Send `allow_duplicate=true` if it is meant.")
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

/// What else somebody is told who asked for all errors of a file, and found no place for that.
pub(super) fn crowded_out(problem: Problem) -> Problem {
    if problem.code() != ProblemCode::InvalidFile.as_str() {
        return problem;
    }
    problem.and("All of them as a file can be had once other such files have been taken: send it again in a while.")
}

pub(super) fn too_large(max_bytes: u64) -> Problem {
    let detail = format!("The file has more than {max_bytes} bytes (inflated). Split it; nothing of it was kept.");
    Problem::new(ProblemCode::TooLarge, detail)
}

fn quota_exceeded(exceeded: Exceeded) -> Problem {
    let Exceeded { quota, limit, used, more } = exceeded;
    let quota = quota.as_str();
    let detail = format!(
        "`{quota}` may be {limit}: {used} are used, and this upload would add {more} at least. Nothing was kept. Wait until \
         batches are finished, delete some that you do not need any more, or ask the operator for more (`[quotas]`)."
    );
    Problem::new(ProblemCode::QuotaExceeded, detail).with("quota", quota).with("limit", limit).with("used", used)
}

/// How full the disk is stands in the log: it is nobody's business who only uploads.
fn no_room(short: &impl std::fmt::Display) -> Problem {
    tracing::warn!(event = "upload.without_room", %short, "an upload was refused for want of room");
    Problem::new(
        ProblemCode::DiskFull,
        "There is no room for this file. Nothing was kept. The operator has to make room, with `dripfeed purge` or a \
         larger volume.",
    )
}

pub(super) fn not_stored(error: &ObjectError) -> Problem {
    tracing::error!(event = "upload.not_stored", %error, "an upload could not be stored");
    if matches!(error, ObjectError::Full { .. }) {
        return Problem::disk_full();
    }
    Problem::new(
        ProblemCode::Unavailable,
        "The place where files are stored is out of reach; nothing was kept. Upload the file again in a while.",
    )
    .retry_after(STORE_RETRY_SECONDS)
}
