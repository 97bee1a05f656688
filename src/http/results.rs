//! `GET /v2/batches/ID/results.csv`: a batch as a CSV, streamed.
//!
//! Each piece is made when the connection can take it, on a blocking thread that is free again after it: a slow reader
//! holds neither a thread nor a snapshot of the database, and one that goes away stops the rest.

use bytes::Bytes;
use futures_util::stream;
use schemars::JsonSchema;
use serde::Deserialize;
use warp::{
    Reply,
    http::{HeaderValue, header},
};

use super::{
    answer::{Answer, blocking, too_long},
    problem::{Problem, ProblemCode},
    reads::{LARGEST_PIECE, Place, Reads},
    request::Request,
    rows::{self, Opened, opened},
};
use crate::{
    model::{BatchId, FailureCode, RowStatus},
    results::{self, PIECE_BYTES, Piece, Results, ResultsError, Selection},
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

pub(super) async fn download(id: BatchId, request: Request) -> Answer {
    let reads = request.context.reads.clone();
    let (results, whose, file_name, right) = blocking(move || {
        let (caller, query) = (request.caller()?, request.query::<Query>()?);
        let (status, code) = rows::kind_of(query.status.as_deref(), query.code.as_deref())?;
        let Opened { open, masked, whose, .. } = opened(&request, &caller, id, None, query.reveal)?;
        let selection = Selection { status, code, raw: query.raw, masked };
        let results = Results::new(request.context.appliance.clone(), open, selection);
        Ok((results, whose, results::file_name(id, selection), request.right()?))
    })
    .await?;
    // What goes wrong at the first rows can still be told as a problem.
    let begun = next(Download { results, reads, whose, is_begun: false }).await?;
    let (first, rest) = begun.ok_or_else(Problem::internal)?;
    let rest = stream::try_unfold(rest, next);
    let pieces = stream::once(async move { Ok::<_, Problem>(first) });
    let pieces = futures_util::StreamExt::chain(pieces, rest);
    let pieces = futures_util::TryStreamExt::map_err(pieces, |_| BrokenOff);
    let pieces = right.guard(pieces, Some(Err(BrokenOff)));
    let mut response = warp::reply::stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8; header=present"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{file_name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// What is left of a download.
struct Download {
    results: Results,
    reads: Reads,
    /// Whose it is: a client's key in the database, or `None` for an operator.
    whose: Option<i64>,
    is_begun: bool,
}

impl Download {
    async fn place(&self, room: usize) -> Result<Place, Problem> {
        match self.is_begun {
            true => self.reads.next_piece(self.whose, room).await,
            false => self.reads.first_piece(self.whose, room).await,
        }
    }
}

/// The next piece that has anything in it. Between two looks a caller who has gone away ends this.
async fn next(mut download: Download) -> Result<Option<(Bytes, Download)>, Problem> {
    let mut room = PIECE_BYTES;
    loop {
        let place = download.place(room).await?;
        let made = place.make(move || {
            let piece = download.results.next_piece(room).map_err(|error| problem(&error))?;
            Ok((piece, download))
        });
        let (piece, still) = made.await?;
        download = Download { is_begun: true, ..still };
        match piece {
            Piece::End => return Ok(None),
            Piece::Rows(piece) if piece.is_empty() => {}
            Piece::Rows(piece) => return Ok(Some((place.hold(piece), download))),
            Piece::TooLong if room < LARGEST_PIECE => room = LARGEST_PIECE,
            Piece::TooLong => return Err(too_long()),
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
