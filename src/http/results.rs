//! `GET /v2/batches/ID/results.csv`: a batch as a CSV, streamed.
//!
//! Each piece is made when the connection can take it, on a blocking thread that is free again after it: a slow reader
//! holds neither a thread nor a snapshot of the database, and one that goes away stops the rest.

use bytes::Bytes;
use futures_util::stream;
use schemars::JsonSchema;
use serde::Deserialize;
use warp::{
    Filter, Reply,
    filters::BoxedFilter,
    http::{HeaderValue, header},
    reply::Response,
};

use super::{
    Context,
    answer::{Answer, answer, blocking},
    problem::{Problem, ProblemCode},
    request::{Request, request},
    rows::{self, Sight, opened},
};
use crate::{
    model::{BatchId, FailureCode, RowStatus},
    results::{self, Results, ResultsError, Selection},
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// Only rows with this status; `failed` leaves out those that a retry without a code leaves alone, as what
    /// they ask for was perhaps, or probably, done (`outcome_unknown`, or `bad_answer` where the step is not `safe`).
    #[schemars(with = "Option<RowStatus>")]
    status: Option<String>,
    /// Only rows that failed with this code.
    #[schemars(with = "Option<FailureCode>")]
    code: Option<String>,
    /// Cells as they are, also those that a spreadsheet would run as a formula.
    #[serde(default)]
    raw: bool,
    /// An operator's look at the values themselves; it is audited.
    #[serde(default)]
    reveal: bool,
}

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    warp::path!("v2" / "batches" / BatchId / "results.csv")
        .and(warp::get())
        .and(request(&context))
        .and_then(|id, request| answer("/v2/batches/ID/results.csv", download(id, request)))
        .boxed()
}

async fn download(id: BatchId, request: Request) -> Answer {
    let (first, results, file_name) = blocking(move || {
        let query = request.query::<Query>()?;
        let (status, code) = rows::kind_of(query.status.as_deref(), query.code.as_deref())?;
        let sight = Sight { reveal: query.reveal, action: "batch.reveal", target: id.to_string() };
        let (_, open, masked) = opened(&request, id, sight)?;
        let selection = Selection { status, code, raw: query.raw, masked };
        let mut results = Results::new(request.context.appliance.clone(), open, selection);
        // What goes wrong at the first rows can still be told as a problem.
        let mut first = results.header().map_err(|error| problem(&error))?;
        first.extend(results.next_piece().map_err(|error| problem(&error))?.unwrap_or_default());
        Ok((first, results, results::file_name(id, selection)))
    })
    .await?;
    let rest = stream::try_unfold(results, next);
    let pieces = stream::once(async move { Ok::<_, Problem>(Bytes::from(first)) });
    let pieces = futures_util::StreamExt::chain(pieces, rest);
    let pieces = futures_util::TryStreamExt::map_err(pieces, |_| BrokenOff);
    let mut response = warp::reply::stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8; header=present"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{file_name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// The next piece that has anything in it. Between two looks a caller who has gone away ends this.
async fn next(mut results: Results) -> Result<Option<(Bytes, Results)>, Problem> {
    loop {
        let (piece, still) = blocking(move || {
            let piece = results.next_piece().map_err(|error| problem(&error))?;
            Ok((piece, results))
        })
        .await?;
        match piece {
            None => return Ok(None),
            Some(piece) if piece.is_empty() => results = still,
            Some(piece) => return Ok(Some((piece.into(), still))),
        }
    }
}

/// The answer ends before its end, which the caller sees from its encoding; why stands in the log.
#[derive(Debug, thiserror::Error)]
#[error("the download broke off")]
struct BrokenOff;

fn problem(error: &ResultsError) -> Problem {
    tracing::warn!(event = "results.broke_off", %error, "a download of results broke off");
    match error {
        ResultsError::Deleted => Problem::not_found("batch"),
        ResultsError::Csv(_) => Problem::internal(),
        ResultsError::Store(error) if error.is_passing() => {
            Problem::new(ProblemCode::Unavailable, "The database is busy. Try again in a while.")
        }
        ResultsError::Store(_) => Problem::internal(),
    }
}
